// Package site looks at the documents' site as its readers do: in a browser, on a telephone and on a desk, in light and
// in dark. `make site-test` builds the site and runs it.
package site

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	folder   = flag.String("site", "../../bin/site/html", "the folder of the site")
	pictures = flag.String("pictures", "", "a folder for pictures of some pages")
)

// screen is a width in pixels, and the reader's preference for dark or light.
type screen struct {
	width  int64
	scheme string
}

func (s screen) String() string { return fmt.Sprintf("%d-%s", s.width, s.scheme) }

// screens are a telephone and a desk. Colours do not depend on the width, so that two of four suffice.
var screens = []screen{{390, "light"}, {1440, "dark"}}

// visit is a browser, and the complaints about the pages that it has shown.
type visit struct {
	ctx     context.Context
	address string

	mu         sync.Mutex
	complaints []string
}

// open serves the site at a loopback address and opens a browser.
func open(t *testing.T) *visit {
	t.Helper()
	server := httptest.NewServer(http.FileServer(http.Dir(*folder)))
	t.Cleanup(server.Close)
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.NoSandbox)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	v := &visit{address: server.URL}
	require.NoError(t, chromedp.Do(ctx)) // starts the browser, which lives as long as this context
	v.ctx, cancel = context.WithTimeout(ctx, 10*time.Minute)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Listen(v.ctx, v.watch))
	call(t, v, network.Enable, network.EnableParams{})
	call(t, v, log.Enable, cdp.Empty{})
	return v
}

// call gives the browser a command of its protocol.
func call[P, R any](t *testing.T, v *visit, command cdp.Command[P, R], params P) {
	t.Helper()
	_, err := chromedp.Call(v.ctx, command, params)
	require.NoError(t, err)
}

// run runs an action in the browser.
func run[T any](t *testing.T, v *visit, action chromedp.Action[T]) T {
	t.Helper()
	result, err := chromedp.Run(v.ctx, action)
	require.NoError(t, err)
	return result
}

// show opens a page.
func (v *visit) show(t *testing.T, page string) {
	t.Helper()
	run(t, v, chromedp.Navigate(v.address+"/"+page))
}

// watch takes down requests to other hosts, and everything that the console shows as an error.
func (v *visit) watch(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if to := e.Request.URL; !strings.HasPrefix(to, v.address+"/") && !strings.HasPrefix(to, "data:") && !strings.HasPrefix(to, "blob:") {
			v.complain("asks %s", to)
		}
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 {
			v.complain("%s has status %d", e.Response.URL, e.Response.Status)
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			v.complain("the console shows: %s", e.Entry.Text)
		}
	case *runtime.EventExceptionThrown:
		v.complain("a script fails: %s", e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			v.complain("a script complains")
		}
	}
}

func (v *visit) complain(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.complaints = append(v.complaints, fmt.Sprintf(format, args...))
}

// complaintsSince returns the complaints since the last call.
func (v *visit) complaintsSince() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := v.complaints
	v.complaints = nil
	return all
}

// screen sets the width of the window and the preference of the reader.
func (v *visit) screen(t *testing.T, s screen) {
	t.Helper()
	call(t, v, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: s.width, Height: 900, DeviceScaleFactor: 1, Mobile: s.width < 600})
	call(t, v, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s.scheme}}})
	v.show(t, "404.html")
	run(t, v, chromedp.Evaluate[any](`localStorage.clear()`)) // in which the theme keeps a choice
}

// pages returns the addresses of all pages.
func (v *visit) pages(t *testing.T) (pages []string) {
	t.Helper()
	require.NoError(t, fs.WalkDir(os.DirFS(*folder), ".", func(name string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(name, ".html") {
			pages = append(pages, name)
		}
		return err
	}))
	require.Greater(t, len(pages), 50, "make site has not run")
	return pages
}

// look is what a page looks like.
type look struct {
	// Wider is by how many pixels the page is wider than the window, which makes readers scroll sideways.
	Wider float64
	// Broken are the pictures that are not shown, and Dead the links to places of the page that do not exist.
	Broken, Dead []string
	// Contrast is the lowest one between a text and its background, and Palest that text.
	Contrast float64
	Palest   string
	// Dark reports whether the page is dark.
	Dark bool
	// Title is the first heading.
	Title string
}

const inspect = `(() => {
	const rgb = color => color.match(/[\d.]+/g).map(Number);
	const light = color => { const [r, g, b] = rgb(color).map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const behind = node => { for (; node; node = node.parentElement) { const c = getComputedStyle(node).backgroundColor;
		if ((rgb(c)[3] ?? 1) > 0.9) return c; } return 'rgb(255, 255, 255)'; };
	const over = (top, under) => { const t = rgb(top), u = rgb(under), a = t[3] ?? 1; return 'rgb(' + [0, 1, 2].map(i => t[i] * a + u[i] * (1 - a)).join(', ') + ')'; };
	const contrast = node => { const under = behind(node), [a, b] = [light(over(getComputedStyle(node).color, under)), light(under)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); };
	const texts = [...document.querySelectorAll('article p, article li, article td, article a, article code')].filter(n => n.innerText.trim());
	const palest = texts.map(n => [contrast(n), n.innerText.slice(0, 40)]).sort((a, b) => a[0] - b[0])[0] ?? [21, ''];
	return {
		wider: document.documentElement.scrollWidth - innerWidth,
		broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
		dead: [...document.querySelectorAll('article a[href^="#"]')].map(a => decodeURIComponent(a.getAttribute('href').slice(1))).filter(id => id && !document.getElementById(id)),
		contrast: palest[0], palest: palest[1], dark: light(behind(document.querySelector('article'))) < 0.2,
		title: document.querySelector('h1')?.innerText ?? '',
	};
})()`

// No page asks anybody but its own server or shows an error, and each can be read on every screen.
func TestEveryPageOnEveryScreen(t *testing.T) {
	v := open(t)
	for _, s := range screens {
		v.screen(t, s)
		for _, page := range v.pages(t) {
			v.show(t, page)
			seen := run(t, v, chromedp.Evaluate[look](inspect))
			at := page + " on a screen " + s.String()
			assert.Empty(t, v.complaintsSince(), at)
			assert.LessOrEqual(t, seen.Wider, 0.0, "%s is wider than the window", at)
			assert.Empty(t, seen.Broken, at)
			assert.Empty(t, seen.Dead, at)
			assert.NotEmpty(t, seen.Title, at)
			assert.Equal(t, s.scheme == "dark", seen.Dark, at)
			assert.GreaterOrEqual(t, seen.Contrast, 4.5, "%s: %q is too pale", at, seen.Palest)
			v.picture(t, page, s)
		}
	}
}

// pictured are the pages that -pictures takes.
var pictured = []string{"index.html", "first-mirror.html", "install.html", "rules.html", "reasons/PortNotFound.html", "reference/commands.html", "reference/metrics.html"}

// picture writes the picture of a page that somebody wants to look at.
func (v *visit) picture(t *testing.T, page string, s screen) {
	t.Helper()
	if *pictures == "" || !slices.Contains(pictured, page) {
		return
	}
	v.write(t, page, s, run(t, v, chromedp.FullScreenshot(100)))
}

func (v *visit) write(t *testing.T, page string, s screen, shot []byte) {
	t.Helper()
	name := fmt.Sprintf("%s-%s.png", strings.ReplaceAll(strings.TrimSuffix(page, ".html"), "/", "-"), s)
	require.NoError(t, os.MkdirAll(*pictures, 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(*pictures, name), shot, 0o600))
}

// The search finds the page of a reason by its name, and a page by its words, and leads there.
func TestSearch(t *testing.T) {
	v := open(t)
	for _, s := range screens {
		v.screen(t, s)
		for words, page := range map[string]string{"PortNotFound": "reasons/PortNotFound.html", "certificate renewal": "install.html"} {
			v.show(t, "index.html?q="+url.QueryEscape(words))
			run(t, v, chromedp.WaitReady(chromedp.CSS(".md-search-result__link")))
			found := run(t, v, chromedp.Evaluate[[]string](`[...document.querySelectorAll('.md-search-result__link')].map(a => a.href)`))
			require.True(t, slices.ContainsFunc(found, func(to string) bool { return strings.Contains(to, page) }), "%s: %v", words, found)
			if *pictures != "" {
				run(t, v, chromedp.Sleep(time.Second)) // the panel slides in
				v.write(t, "search", s, run(t, v, chromedp.CaptureScreenshot()))
			}
			assert.Empty(t, v.complaintsSince())
		}
	}
}

// The navigation leads a newcomer from the installation to the reference.
func TestNavigation(t *testing.T) {
	v := open(t)
	v.screen(t, screens[1])
	v.show(t, "index.html")
	sections := run(t, v, chromedp.Evaluate[[]string](
		`[...document.querySelectorAll('.md-nav--primary > .md-nav__list > .md-nav__item')].map(i => i.querySelector('label, a').innerText.trim())`))
	assert.Equal(t, []string{"mirrorgate", "Install", "First mirror in five minutes", "Without a mesh", "Policy", "Operate", "Reference", "Reasons", "Design"}, sections)
}
