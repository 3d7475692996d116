package printing

import "strings"

// Nearest returns the known name that another one is a misspelling of, "" when there is none.
func Nearest(name string, known []string) string {
	best, least := "", 0
	for _, candidate := range known {
		a, b := strings.ToLower(strings.ReplaceAll(name, "_", "")), strings.ToLower(candidate)
		limit := max(1, len(candidate)/4)
		if len(a) > len(b)+limit || len(b) > len(a)+limit {
			continue
		}
		if d := distance(a, b); d <= limit && (best == "" || d < least) {
			best, least = candidate, d
		}
	}
	return best
}

// distance counts the letters to insert, remove, replace or swap that lead from one word to another (the
// optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
