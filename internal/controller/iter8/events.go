package iter8

// Events of the ConfigMaps, for the people who wrote them.

import corev1 "k8s.io/api/core/v1"

// warn writes an Event about a problem, once for as long as it stays the same.
func (s *namespaceState) warn(d *document, p *problem) {
	if p.reason == "" || !d.reported.Is(p.reason, p.note) {
		return
	}
	s.report(d, p.route, corev1.EventTypeWarning, p.reason, p.note)
	s.run.opts.Log.Info("A document has a problem", "namespace", s.namespace, "name", d.cm.Name, "reason", p.reason, "note", p.note)
}

// report writes an Event about a document. The route that it concerns, if any, is the related object:
// client-go counts Events with the same objects as one series, and keeps the note of the first.
func (s *namespaceState) report(d *document, related *corev1.ObjectReference, eventType, reason, note string) {
	s.run.events.Report(&corev1.ObjectReference{
		APIVersion: "v1", Kind: "ConfigMap", Namespace: d.cm.Namespace, Name: d.cm.Name, UID: d.cm.UID, ResourceVersion: d.cm.ResourceVersion,
	}, related, eventType, reason, "%s", note)
}
