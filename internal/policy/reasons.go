package policy

// The reasons for decisions, findings and warnings. Their texts are part of the API: users match on them.

// Reason is a constant that names why a decision came out as it did. It appears in messages, events, logs,
// audit annotations and metric labels.
type Reason string

// Reasons for which a mirror is parked until a later object mends it.
const (
	ServiceNotFound         Reason = "ServiceNotFound"
	ServiceDeleting         Reason = "ServiceDeleting"
	HostNotFound            Reason = "HostNotFound"
	ShortHost               Reason = "ShortHost"
	DestinationRuleNotFound Reason = "DestinationRuleNotFound"
	WorkloadNotFound        Reason = "WorkloadNotFound"
	WorkloadDeleting        Reason = "WorkloadDeleting"
	ScaledToZero            Reason = "ScaledToZero"
	NoReadyEndpoints        Reason = "NoReadyEndpoints"
	NotGranted              Reason = "NotGranted"
)

// Reasons for which a mirror copies less than it declares, or is parked although its variant is ready. OverLimit and
// OverLoad also deny.
const (
	Expired   Reason = "Expired"
	Stopped   Reason = "Stopped"
	RampStep  Reason = "RampStep"
	OverLimit Reason = "OverLimit"
	OverLoad  Reason = "OverLoad"
)

// Reasons for which a write is denied: contradictions that no later object can repair.
const (
	PercentOutOfRange Reason = "PercentOutOfRange"
	MirrorConflict    Reason = "MirrorConflict"
	PortNotFound      Reason = "PortNotFound"
	SubsetNotFound    Reason = "SubsetNotFound"
	MirrorsItself     Reason = "MirrorsItself"
	Loop              Reason = "Loop"
	UnsupportedTarget Reason = "UnsupportedTarget"
	PolicyExceeded    Reason = "PolicyExceeded"
	ParkedInvalid     Reason = "ParkedInvalid"
	GateInvalid       Reason = "GateInvalid"
)

// Reasons that have a warning; strict mode denies them.
const (
	MirrorNotSupported Reason = "MirrorNotSupported"
	ShareNotSupported  Reason = "ShareNotSupported"
)

// Reasons that have a warning at most.
const (
	WouldNotFit         Reason = "WouldNotFit"
	MirrorInvalid       Reason = "MirrorInvalid"
	MirrorReplaced      Reason = "MirrorReplaced"
	ManagedRoute        Reason = "ManagedRoute"
	OrphanedPlaceholder Reason = "OrphanedMark"
	SumExceeds100       Reason = "SumExceeds100"
	DeprecatedField     Reason = "DeprecatedField"
	TruncatesToZero     Reason = "TruncatesToZero"
	NonIdempotent       Reason = "NonIdempotent"
	VariantReady        Reason = "VariantReady"
	VariantUnknown      Reason = "VariantUnknown"
	GateNever           Reason = "GateNever"
	NoMirror            Reason = "NoMirror"
	ExternalTarget      Reason = "ExternalTarget"
	Unchanged           Reason = "Unchanged"
	Deleting            Reason = "Deleting"
	Unreadable          Reason = "Unreadable"
)

// mendable reports whether a later object can remove the reason.
func (r Reason) mendable() bool {
	switch r {
	case ServiceNotFound, ServiceDeleting, HostNotFound, ShortHost, DestinationRuleNotFound, WorkloadNotFound,
		WorkloadDeleting, ScaledToZero, NoReadyEndpoints, NotGranted:
		return true
	}
	return false
}
