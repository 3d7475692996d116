package webhooktest

// The names of decisions, of which policy has the list.

import "github.com/mirrorgate/mirrorgate/internal/policy"

// Action is the effect of a decision on a route.
type Action = policy.Action

// The actions. A decision that parks one mirror and restores another counts as Park.
const (
	Park    = policy.Park
	Restore = policy.Restore
	Limit   = policy.Limit
	None    = policy.None
	Skip    = policy.Skip
	Deny    = policy.Deny
)

// Reason names why a decision came out as it did, as in events, logs and metrics.
type Reason = policy.Reason

// Reasons for which a mirror is parked until a later object mends it.
const (
	ServiceNotFound         = policy.ServiceNotFound
	ServiceDeleting         = policy.ServiceDeleting
	HostNotFound            = policy.HostNotFound
	ShortHost               = policy.ShortHost
	DestinationRuleNotFound = policy.DestinationRuleNotFound
	WorkloadNotFound        = policy.WorkloadNotFound
	WorkloadDeleting        = policy.WorkloadDeleting
	ScaledToZero            = policy.ScaledToZero
	NoReadyEndpoints        = policy.NoReadyEndpoints
	NotGranted              = policy.NotGranted
)

// Reasons for which a mirror copies less than it declares, or is parked although its variant is ready.
const (
	Expired   = policy.Expired
	Stopped   = policy.Stopped
	RampStep  = policy.RampStep
	OverLimit = policy.OverLimit
	OverLoad  = policy.OverLoad
)

// Reasons for which a write is denied: contradictions that no later object can repair.
const (
	PercentOutOfRange = policy.PercentOutOfRange
	MirrorConflict    = policy.MirrorConflict
	PortNotFound      = policy.PortNotFound
	SubsetNotFound    = policy.SubsetNotFound
	MirrorsItself     = policy.MirrorsItself
	Loop              = policy.Loop
	UnsupportedTarget = policy.UnsupportedTarget
	PolicyExceeded    = policy.PolicyExceeded
	ParkedInvalid     = policy.ParkedInvalid
	GateInvalid       = policy.GateInvalid
)

// Reasons that end in a warning; strict mode denies them.
const (
	MirrorNotSupported = policy.MirrorNotSupported
	ShareNotSupported  = policy.ShareNotSupported
)

// Reasons that end in a warning, or in nothing.
const (
	WouldNotFit         = policy.WouldNotFit
	MirrorInvalid       = policy.MirrorInvalid
	MirrorReplaced      = policy.MirrorReplaced
	ManagedRoute        = policy.ManagedRoute
	OrphanedPlaceholder = policy.OrphanedPlaceholder
	SumExceeds100       = policy.SumExceeds100
	DeprecatedField     = policy.DeprecatedField
	TruncatesToZero     = policy.TruncatesToZero
	NonIdempotent       = policy.NonIdempotent
	VariantReady        = policy.VariantReady
	VariantUnknown      = policy.VariantUnknown
	GateNever           = policy.GateNever
	NoMirror            = policy.NoMirror
	ExternalTarget      = policy.ExternalTarget
	Unchanged           = policy.Unchanged
	Deleting            = policy.Deleting
	Unreadable          = policy.Unreadable
)
