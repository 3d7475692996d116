// Replay compares mirrorgate's decisions with the answers that Istio gave before: it reads cases as lines of JSON,
// and fails when one differs. It needs no Istio, so a changed resolver is judged in seconds.
//
//	replay FILE
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mirrorgate/mirrorgate/test/judges/gate"
)

// disagrees is the exit status when a decision differs. Others are faults of the program.
const disagrees = 3

func main() {
	n, err := replay(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if n > 0 {
		os.Exit(disagrees)
	}
}

// replay prints the disagreements of the first case that has some, and returns how many cases have.
func replay(name string) (n int, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for cases := json.NewDecoder(f); ; {
		var c gate.Case
		if err := cases.Decode(&c); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return 0, err
		}
		found, err := gate.Disagreements(c)
		if err != nil {
			return 0, err
		}
		if len(found) > 0 {
			if n++; n == 1 {
				fmt.Println(found[0])
			}
		}
	}
}
