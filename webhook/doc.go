// Package webhook answers the API server's admission requests: it decodes them, lets policy decide, and
// answers with operations, warnings or a denial. Only packages below it know AdmissionReview.
//
// Gate has the handlers for routes, Services the one for Services. To test routes and policies without a
// cluster, use package webhooktest.
//
// # Failing open
//
// failurePolicy Ignore covers less than it seems. On kube-apiserver 1.36, with every webhook set to Ignore:
//
//	a handler that does ...               the API server ...
//	does not answer in time               admits the request
//	cannot be reached                     admits the request
//	answers with an error (Errored)       denies the request
//	panics (recovered into an error)      denies the request
//	sends a patch that does not apply     denies the request
//	has a failing matchCondition          skips the webhook
//
// So the handlers themselves fail open: after any internal error the answer is Allowed with a warning, and a
// counter goes up. Only a verdict on the user's own input denies.
package webhook
