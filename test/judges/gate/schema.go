package gate

import (
	"context"
	"fmt"
)

// Schema accepts or refuses routes, as it does where mirrorgate is not installed.
type Schema interface {
	// Normal returns an object in JSON as the API server decodes it.
	Normal(raw []byte) ([]byte, error)
	// Check returns the fault for which an object in JSON is refused, nil when it is accepted.
	Check(ctx context.Context, raw []byte) error
}

// Compare reports whether a schema accepts a route as it is written, and how its answer about the stored route
// differs, "" when it does not.
func (g *Gate) Compare(ctx context.Context, schema Schema, route []byte) (accepted bool, difference string, err error) {
	written, err := schema.Normal(route)
	if err != nil {
		return false, "", err
	}
	before := schema.Check(ctx, written)
	mutated, err := g.Mutate(ctx, written)
	if err != nil {
		return false, "", err
	}
	stored, err := schema.Normal(mutated)
	if err != nil {
		return false, "", err
	}
	after := schema.Check(ctx, stored)
	denial, err := g.Validate(ctx, stored)
	if err != nil {
		return false, "", err
	}
	switch {
	case before == nil && after != nil:
		difference = fmt.Sprintf("accepted as written, and as stored it is refused: %v\nstored: %s", after, stored)
	case before != nil && after == nil && denial == "":
		difference = fmt.Sprintf("refused as written (%v), and as stored it is accepted\nstored: %s", before, stored)
	}
	return before == nil, difference, nil
}
