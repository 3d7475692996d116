package check

import (
	"fmt"
	"io"

	"github.com/mirrorgate/mirrorgate/internal/printing"
)

var symbols = map[Level]string{OK: "✓", Unread: "‼", Warning: "‼", Error: "×"}

// WriteText prints a line for each result, and under a fault its hint and the address of its description.
func WriteText(w io.Writer, results []Result) error {
	count := map[Level]int{}
	for _, r := range results {
		count[r.Level]++
		fmt.Fprintf(w, "%s %s: %s\n", symbols[r.Level], r.Check, printing.Plain(r.Text))
		if r.Hint != "" {
			fmt.Fprintf(w, "    hint: %s\n", printing.Plain(r.Hint))
		}
		if r.Docs != "" {
			fmt.Fprintf(w, "    see %s\n", r.Docs)
		}
	}
	_, err := fmt.Fprintf(w, "\n%d ok, %d not checked, %d warnings, %d errors\n", count[OK], count[Unread], count[Warning], count[Error])
	return err
}

// WriteJSON prints the results as one JSON object with the fields checks, and ok if none of them is an error.
func WriteJSON(w io.Writer, results []Result) error {
	return printing.JSON(w, map[string]any{"checks": results, "ok": !Fails(results, Error)})
}
