// Package crd judges objects by a CustomResourceDefinition as an API server does, with its own library: pruned,
// defaulted, and validated with the rules in CEL.
package crd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	kjson "sigs.k8s.io/json"
)

// Schema is one version of a CustomResourceDefinition.
type Schema struct {
	structural *structuralschema.Structural
	openAPI    validation.SchemaCreateValidator
	rules      *cel.Validator
}

// Read returns the schema of a version of a kind from the CRDs in a YAML text.
func Read(text []byte, kind, version string) (*Schema, error) {
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 1<<16)
	for {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := documents.Decode(&crd); errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("there is no CRD of a %s with version %s", kind, version)
		} else if err != nil {
			return nil, err
		}
		for _, v := range crd.Spec.Versions {
			if crd.Spec.Names.Kind == kind && v.Name == version {
				return compile(v.Schema.OpenAPIV3Schema)
			}
		}
	}
}

func compile(published *apiextensionsv1.JSONSchemaProps) (*Schema, error) {
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(published, &props, nil); err != nil {
		return nil, err
	}
	structural, err := structuralschema.NewStructural(&props)
	if err != nil {
		return nil, err
	}
	openAPI, _, err := validation.NewSchemaValidator(&props)
	if err != nil {
		return nil, err
	}
	return &Schema{structural, openAPI, cel.NewValidator(structural, true, celconfig.PerCallLimit)}, nil
}

// Normal returns an object in JSON as the API server stores it: without unknown fields, with defaults.
func (s *Schema) Normal(raw []byte) ([]byte, error) {
	o, err := decode(raw)
	if err != nil {
		return nil, err
	}
	pruning.Prune(o, s.structural, true)
	defaulting.PruneNonNullableNullsWithoutDefaults(o, s.structural)
	defaulting.Default(o, s.structural)
	return json.Marshal(o)
}

// Check returns the fault for which the API server refuses to create an object in JSON, nil when it accepts it.
func (s *Schema) Check(ctx context.Context, raw []byte) error {
	o, err := decode(raw)
	if err != nil {
		return err
	}
	if errs := validation.ValidateCustomResource(nil, o, s.openAPI); len(errs) > 0 {
		return errs.ToAggregate()
	}
	if errs := listtype.ValidateListSetsAndMaps(nil, s.structural, o); len(errs) > 0 {
		return errs.ToAggregate()
	}
	if s.rules == nil {
		return nil
	}
	errs, _ := s.rules.Validate(ctx, field.NewPath(""), s.structural, o, nil, math.MaxInt64)
	return errs.ToAggregate()
}

func decode(raw []byte) (map[string]any, error) {
	var o map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &o); err != nil {
		return nil, err
	}
	return o, nil
}
