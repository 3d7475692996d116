package feedtest

// Requests about one object.

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// one answers a get, or a merge patch whose resourceVersion and uid hold if it has them. a.mu is held.
func (a *API) one(w http.ResponseWriter, r *http.Request, path, namespace string) {
	path = strings.TrimSuffix(path, "/status")
	at := strings.LastIndex(path, "/")
	of := a.served[path[:max(at, 0)]]
	if of == nil {
		fail(w, http.StatusNotFound)
		return
	}
	o := of.objects[namespace+"/"+path[at+1:]]
	if o == nil {
		fail(w, http.StatusNotFound)
		return
	}
	if r.Method == http.MethodPatch {
		if o = a.patch(w, r, path[:at], of, o); o == nil {
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(o.Object)
}

func (a *API) patch(w http.ResponseWriter, r *http.Request, path string, of *resource, o *unstructured.Unstructured) *unstructured.Unstructured {
	body, _ := io.ReadAll(r.Body)
	var wanted unstructured.Unstructured
	before, _ := json.Marshal(o.Object)
	after, err := jsonpatch.MergePatch(before, body)
	if err != nil || json.Unmarshal(body, &wanted.Object) != nil {
		fail(w, http.StatusBadRequest)
		return nil
	}
	if version := wanted.GetResourceVersion(); version != "" && version != o.GetResourceVersion() {
		fail(w, http.StatusConflict)
		return nil
	}
	next := &unstructured.Unstructured{}
	if json.Unmarshal(after, &next.Object) != nil {
		fail(w, http.StatusBadRequest)
		return nil
	}
	a.patched = append(a.patched, Patch{r.URL.Path, r.Header.Get("Content-Type"), string(body)})
	a.store(path, of, next, "MODIFIED")
	return next
}
