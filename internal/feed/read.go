package feed

// Reading without a watch.

import (
	"context"
	"errors"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

var errTooManyPages = errors.New("more objects than one decision may read")

// Selection is the objects of a namespace, "" for all, with a name and labels where these are set.
type Selection struct{ Namespace, Name, Labels string }

// Read returns the records of the selected objects. It fails if they are more than this number of pages.
func Read(ctx context.Context, from Source, s Selection, pages int) (found []any, err error) {
	if typed, ok := from.(*typedSource); ok && s.Name != "" {
		rec, err := typed.one(ctx, s.Namespace, s.Name)
		if rec == nil || err != nil {
			return nil, err
		}
		return []any{rec}, nil
	}
	opts := metav1.ListOptions{Limit: PageSize, LabelSelector: s.Labels}
	if s.Name != "" {
		opts.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, s.Name).String()
	}
	for range pages {
		page, err := from.List(ctx, s.Namespace, opts)
		if err != nil {
			return nil, err
		}
		for _, it := range page.Items {
			if it.Record != nil {
				found = append(found, it.Record)
			}
		}
		if page.Continue == "" {
			return found, nil
		}
		opts.Continue = page.Continue
	}
	return nil, errTooManyPages
}
