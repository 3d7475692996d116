// Command site prepares the documents for mkdocs, which makes a static site with search of them. It places every page in
// the navigation, turns links that leave docs/ into links to the repository, and fails on a link that leads nowhere.
package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// repository is the address of a file of the repository that is no page.
const repository = "https://github.com/mirrorgate/mirrorgate/blob/main/"

// home is the file that becomes the first page.
const home = "README.md"

// section is a part of the navigation with its pages, in the order in which a newcomer needs them; without a title its
// pages stand at the top. A page that ends in /* stands for the other pages of its folder.
type section struct {
	title string
	pages []string
}

var navigation = []section{
	{"", []string{home, "install.md", "first-mirror.md"}},
	{"Without a mesh", []string{"nomesh.md", "proxy.md", "compare.md"}},
	{"Policy", []string{"policy.md", "rules.md", "lint.md", "gitops.md", "iter8.md"}},
	{"Operate", []string{"check.md", "operations.md", "failure.md", "security.md", "benchmarks.md"}},
	{"Reference", []string{"reference/*"}},
	{"Reasons", []string{"reasons/*"}},
	{"Design", []string{"design/*", "conformance/*"}},
}

// theme follows the reader's preference for dark or light. The site serves everything itself: it has no script, style or
// font of others, and no repo_url, for which the theme would ask GitHub for the number of stars.
var theme = map[string]any{
	"name": "material", "font": false, "icon": map[string]string{"logo": "material/mirror"},
	"features": []string{"navigation.sections", "navigation.top", "search.highlight"},
	"palette":  []map[string]any{palette("default", "light", "dark"), palette("slate", "dark", "light")},
}

func palette(scheme, is, other string) map[string]any {
	return map[string]any{
		"scheme": scheme, "media": "(prefers-color-scheme: " + is + ")", "primary": "indigo",
		"toggle": map[string]string{"icon": "material/brightness-6", "name": "Switch to " + other + " mode"},
	}
}

// style makes room for the lines of examples, which have up to 110 characters.
//
//go:embed style.css
var style []byte

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: site REPOSITORY OUTPUT")
		os.Exit(2)
	}
	if err := prepare(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// site is the set of pages, by their paths in the site, and of the pictures that they show.
type site struct {
	root     string
	pages    map[string][]byte
	pictures map[string]bool
}

// read reads all pages of a repository.
func read(root string) (*site, error) {
	s := &site{root: root, pages: map[string][]byte{}, pictures: map[string]bool{}}
	docs := os.DirFS(filepath.Join(root, "docs"))
	err := fs.WalkDir(docs, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".md" {
			return err
		}
		s.pages[name], err = fs.ReadFile(docs, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.pages[home], err = os.ReadFile(filepath.Join(root, home))
	return s, err
}

// prepare writes the pages and the configuration of mkdocs into a folder.
func prepare(root, output string) error {
	s, err := read(root)
	if err != nil {
		return err
	}
	nav, err := s.navigation()
	if err != nil {
		return err
	}
	var failures []error
	for _, name := range s.names() {
		text, err := s.rewrite(name)
		failures = append(failures, err)
		to := filepath.Join(output, "docs", cmp.Or(map[string]string{home: "index.md"}[name], name))
		failures = append(failures, os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, 0o644)) //nolint:gosec // pages are public
	}
	for name := range s.pictures {
		raw, err := os.ReadFile(filepath.Join(root, "docs", name))
		to := filepath.Join(output, "docs", name)
		failures = append(failures, err, os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, raw, 0o644)) //nolint:gosec // as above
	}
	config, err := yaml.Marshal(map[string]any{
		"site_name": "mirrorgate", "docs_dir": "docs", "site_dir": "html", "nav": nav, "use_directory_urls": false,
		"strict": true, "theme": theme, "extra_css": []string{"style.css"}, "extra": map[string]any{
			"generator": false,
			"social":    []map[string]string{{"icon": "fontawesome/brands/github", "link": strings.TrimSuffix(repository, "/blob/main/")}},
		},
		"plugins": []string{"search"}, "markdown_extensions": []string{"tables", "fenced_code", "toc"},
	})
	failures = append(failures, os.WriteFile(filepath.Join(output, "docs", "style.css"), style, 0o644)) //nolint:gosec // as above
	failures = append(failures, err, os.WriteFile(filepath.Join(output, "mkdocs.yml"), config, 0o644))  //nolint:gosec // as above
	return errors.Join(failures...)
}

func (s *site) names() []string {
	var names []string
	for name := range s.pages {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// navigation returns mkdocs' navigation. Every page has exactly one place; those that the table above does not name
// come last.
func (s *site) navigation() ([]any, error) {
	placed := map[string]bool{}
	var nav []any
	for _, part := range navigation {
		var entries []any
		for _, page := range part.pages {
			names := []string{page}
			if folder, all := strings.CutSuffix(page, "*"); all {
				names = slices.DeleteFunc(s.names(), func(name string) bool { return !strings.HasPrefix(name, folder) || placed[name] })
			}
			for _, name := range names {
				if s.pages[name] == nil || placed[name] {
					return nil, fmt.Errorf("docs/site: the navigation names %s, which is no page or has a place already", name)
				}
				placed[name] = true
				entries = append(entries, map[string]string{title(s.pages[name]): cmp.Or(map[string]string{home: "index.md"}[name], name)})
			}
		}
		switch {
		case part.title == "":
			nav = append(nav, entries...)
		case len(entries) > 0:
			nav = append(nav, map[string]any{part.title: entries})
		}
	}
	var more []any
	for _, name := range s.names() {
		if !placed[name] {
			more = append(more, map[string]string{title(s.pages[name]): name})
		}
	}
	if len(more) > 0 {
		nav = append(nav, map[string]any{"More": more})
	}
	return nav, nil
}

// title returns the first heading of a page.
func title(text []byte) string {
	for line := range bytes.Lines(text) {
		if heading, is := bytes.CutPrefix(line, []byte("# ")); is {
			return strings.ReplaceAll(strings.TrimSpace(string(heading)), "`", "")
		}
	}
	return ""
}

// link matches the text and the target of a link, and the target of a picture.
var link = regexp.MustCompile(`(\[[^\[\]]*)?\]\(([^()\s]+)\)`)

// rewrite returns a page with its links as the site has them. The error joins those of all links that lead nowhere.
func (s *site) rewrite(name string) ([]byte, error) {
	var out bytes.Buffer
	var failures []error
	fenced := false
	n := 0
	for line := range bytes.Lines(s.pages[name]) {
		n++
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte("```")) {
			fenced = !fenced
		}
		if fenced {
			out.Write(line)
			continue
		}
		out.Write(link.ReplaceAllFunc(line, func(match []byte) []byte {
			parts := link.FindSubmatch(match)
			target, err := s.resolve(name, string(parts[2]))
			if err != nil {
				failures = append(failures, fmt.Errorf("%s:%d: %w", s.file(name), n, err))
				return match
			}
			return []byte(s.text(name, parts) + "](" + target + ")")
		}))
	}
	return out.Bytes(), errors.Join(failures...)
}

// text returns the text of a link on a page: the title of the page that it leads to, where it was the name of its file.
func (s *site) text(from string, parts [][]byte) string {
	text := string(parts[1])
	if file, _, _ := strings.Cut(string(parts[2]), "#"); text == "["+file || text == "["+path.Base(file) {
		page := strings.TrimPrefix(path.Join(path.Dir(s.file(from)), file), "docs/")
		if s.pages[page] != nil {
			return "[" + title(s.pages[page])
		}
	}
	return text
}

// file returns the path of a page in the repository.
func (s *site) file(name string) string {
	if name == home {
		return home
	}
	return path.Join("docs", name)
}

// resolve returns the target of a link on a page, as the site has it.
func (s *site) resolve(from, target string) (string, error) {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return target, nil
	}
	file, anchor, _ := strings.Cut(target, "#")
	at := s.file(from)
	if file != "" {
		at = path.Join(path.Dir(at), file)
	}
	page, isDoc := strings.CutPrefix(at, "docs/")
	if at == home {
		page, isDoc = home, true
	}
	if isDoc && s.pages[page] != nil {
		if anchor != "" {
			if !slices.Contains(anchors(s.pages[page]), anchor) {
				return "", fmt.Errorf("%s has no heading #%s", at, anchor)
			}
			anchor = "#" + onSite(anchor)
		}
		if file == "" {
			return anchor, nil
		}
		to := cmp.Or(map[string]string{home: "index.md"}[page], page)
		relative, err := filepath.Rel(path.Dir(cmp.Or(map[string]string{home: "index.md"}[from], from)), to)
		return filepath.ToSlash(relative) + anchor, err
	}
	if _, err := os.Stat(filepath.Join(s.root, filepath.FromSlash(at))); err != nil || strings.HasPrefix(at, "..") {
		return "", fmt.Errorf("%s leads to %s, which does not exist", target, at)
	}
	if isDoc && path.Ext(page) == ".svg" { // shown by the site itself
		s.pictures[page] = true
		relative, err := filepath.Rel(path.Dir(from), page)
		return filepath.ToSlash(relative), err
	}
	if anchor != "" {
		anchor = "#" + anchor
	}
	return repository + at + anchor, nil
}

// anchors returns the anchors of a page's headings, as GitHub makes them.
func anchors(text []byte) (found []string) {
	seen := map[string]int{}
	fenced := false
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte("```")) {
			fenced = !fenced
		}
		if fenced || !bytes.HasPrefix(line, []byte("#")) {
			continue
		}
		anchor := slug(strings.TrimSpace(strings.TrimLeft(string(line), "#")))
		if n := seen[anchor]; n > 0 {
			found = append(found, fmt.Sprintf("%s-%d", anchor, n))
		} else {
			found = append(found, anchor)
		}
		seen[anchor]++
	}
	return found
}

// slug returns GitHub's anchor of a heading.
func slug(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}

var dashes = regexp.MustCompile(`-{2,}`)

// onSite returns the anchor that mkdocs makes of the heading with an anchor of GitHub's.
func onSite(anchor string) string { return dashes.ReplaceAllString(anchor, "-") }
