package lint

// SARIF 2.1.0, the format in which code hosts and editors take the findings of linters.

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/docs/reasons"
	"github.com/mirrorgate/mirrorgate/internal/printing"
)

const sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver sarifDriver `json:"driver"`
		} `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version,omitempty"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string    `json:"id"`
		ShortDescription sarifText `json:"shortDescription"`
		Help             sarifText `json:"help"`
		HelpURI          string    `json:"helpUri,omitempty"`
	}
	sarifText struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	sarifResult struct {
		RuleID              string             `json:"ruleId"`
		RuleIndex           int                `json:"ruleIndex"`
		Level               string             `json:"level"`
		Message             sarifText          `json:"message"`
		Locations           []sarifLocation    `json:"locations"`
		PartialFingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions        []sarifSuppression `json:"suppressions,omitempty"`
	}
	sarifLocation struct {
		PhysicalLocation struct {
			ArtifactLocation struct {
				URI string `json:"uri"`
			} `json:"artifactLocation"`
			Region struct {
				StartLine   int `json:"startLine"`
				StartColumn int `json:"startColumn,omitempty"`
			} `json:"region"`
		} `json:"physicalLocation"`
		LogicalLocations []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifLogical struct {
		FullyQualifiedName string `json:"fullyQualifiedName"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification"`
	}
)

var sarifLevels = map[Level]string{Unreadable: "error", Error: "error", Parked: "note", Warning: "warning"}

// WriteSARIF prints the findings as a SARIF log of the program with that version. Findings that comments ignore
// are suppressed results.
func (r *Report) WriteSARIF(w io.Writer, version string) error {
	run := sarifRun{ColumnKind: "unicodeCodePoints", Results: []sarifResult{}}
	run.Tool.Driver = sarifDriver{
		Name: "mirrorgate", Version: version, InformationURI: "https://github.com/mirrorgate/mirrorgate", Rules: []sarifRule{},
	}
	index := map[string]int{}
	for _, f := range slices.Concat(r.Findings, r.Ignored) {
		id := string(f.Reason)
		if _, known := index[id]; !known {
			index[id] = len(run.Tool.Driver.Rules)
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule(id))
		}
		run.Results = append(run.Results, f.sarif(index[id]))
	}
	return printing.JSON(w, sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{run}})
}

func rule(id string) sarifRule {
	page, _ := reasons.Page(id)
	return sarifRule{
		ID: id, ShortDescription: sarifText{Text: reasons.Summary(id)}, Help: sarifText{Text: page, Markdown: page}, HelpURI: reasons.URL(id),
	}
}

func (f Finding) sarif(rule int) sarifResult {
	message := f.explanation()
	if f.Remedy != "" {
		message += "\n" + printing.Plain(f.Remedy)
	}
	result := sarifResult{RuleID: string(f.Reason), RuleIndex: rule, Level: sarifLevels[f.Level], Message: sarifText{Text: message}}
	var at sarifLocation
	at.PhysicalLocation.ArtifactLocation.URI = (&url.URL{Path: filepath.ToSlash(f.File)}).String()
	at.PhysicalLocation.Region.StartLine, at.PhysicalLocation.Region.StartColumn = max(1, f.Line), f.Column
	if f.Object != "" {
		at.LogicalLocations = []sarifLogical{{printing.Plain(strings.TrimSuffix(f.Object+": "+f.Field, ": "))}}
	}
	result.Locations = []sarifLocation{at}
	// The same finding on another line has the same fingerprint.
	sum := sha256.Sum256([]byte(strings.Join([]string{f.File, f.Object, f.Field, string(f.Reason), f.Value}, "\x00")))
	result.PartialFingerprints = map[string]string{"mirrorgateFinding/v1": hex.EncodeToString(sum[:16])}
	if f.Because != "" {
		result.Suppressions = []sarifSuppression{{Kind: "inSource", Justification: printing.Plain(f.Because)}}
	}
	return result
}
