package gate

import (
	"testing"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// TestTogether runs, in parallel and with one shared process, the tests that need nothing of it but that it
// serves: each test has its own namespaces.
func TestTogether(t *testing.T) {
	server := env.Serve(t, "--unready-grace", grace.String())
	for name, test := range map[string]func(*testing.T, *harness.Server){
		"MirrorsFollowTheirVariantThroughEveryTransition":    testMirrorsFollowTheirVariantThroughEveryTransition,
		"ArgoRolloutIsAWorkload":                             testArgoRolloutIsAWorkload,
		"ServiceWithoutASelectorIsJudgedByItsEndpointSlices": testServiceWithoutASelectorIsJudgedByItsEndpointSlices,
		"MirrorToAnotherNamespaceNeedsAGrant":                testMirrorToAnotherNamespaceNeedsAGrant,
		"HostOfAServiceEntryIsLeftAlone":                     testHostOfAServiceEntryIsLeftAlone,
		"DenialNamesFieldValueReasonAndRemedyOfAllFaults":    testDenialNamesFieldValueReasonAndRemedyOfAllFaults,
		"WritesThatStoreNothingLeaveNoEvent":                 testWritesThatStoreNothingLeaveNoEvent,
		"AuditLogHoldsDecisionAndReason":                     testAuditLogHoldsDecisionAndReason,
		"MirrorWhosePlaceholderDoesNotFitStaysActive":        testMirrorWhosePlaceholderDoesNotFitStaysActive,
		"MirrorWhoseAnnotationDoesNotFitStaysActive":         testMirrorWhoseAnnotationDoesNotFitStaysActive,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, server)
		})
	}
}
