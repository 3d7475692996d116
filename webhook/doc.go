// Package webhook is the door to the API server: it decodes admission requests,
// lets policy decide, and answers with operations, warnings or a denial. It is
// the only package that knows AdmissionReview.
//
// A Gate offers both handlers. In the cluster it reads a cache of the API
// server; in a unit test it reads plain objects (see FromYAML), without a
// cluster, a network or a clock.
//
// # Failing open
//
// failurePolicy Ignore covers less than it seems. On kube-apiserver 1.36, with
// every webhook set to Ignore:
//
//	a handler that does ...               the API server ...
//	does not answer in time               admits the request
//	cannot be reached                     admits the request
//	answers with an error (Errored)       denies the request
//	panics (recovered into an error)      denies the request
//	sends a patch that does not apply     denies the request
//	has a failing matchCondition          skips the webhook
//
// So failing open is written in the handlers: whatever goes wrong inside, the
// answer is Allowed with a warning, and a counter goes up. Only a verdict on the
// user's own input denies.
package webhook
