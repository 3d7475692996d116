// The page of a comparison in a real browser, Debian's Chromium.

package interop_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/compare/page"
	"github.com/mirrorgate/mirrorgate/internal/compare/page/pagetest"
	"github.com/mirrorgate/mirrorgate/test/cluster/debian"
)

// messages are what a page complains about, and whom it asks.
type messages struct {
	mu             sync.Mutex
	console, asked []string
}

func (m *messages) listen(event any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		m.console = append(m.console, e.Entry.Text)
	case *runtime.EventConsoleAPICalled:
		m.console = append(m.console, string(e.Type))
	case *runtime.EventExceptionThrown:
		m.console = append(m.console, e.ExceptionDetails.Error())
	case *network.EventRequestWillBeSent:
		m.asked = append(m.asked, e.Request.URL)
	}
}

// browser starts Chromium until the test ends.
func browser(t *testing.T) (context.Context, *messages) {
	t.Helper()
	require.NoError(t, debian.Need(t.Context(), "chromium", "chromium", "fonts-dejavu-core"))
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.ExecPath("chromium"))
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	m := &messages{}
	chromedp.ListenTarget(ctx, m.listen)
	require.NoError(t, chromedp.Run(ctx, log.Enable(), network.Enable(), runtime.Enable()))
	return ctx, m
}

// contrast returns the least contrast of text with the background of the page, by WCAG's formula.
const contrast = `(() => {
	const light = (color) => {
		const parts = color.match(/[\d.]+/g).slice(0, 3).map((x) => x / 255).map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
		return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
	};
	const behind = (e) => {
		for (; e; e = e.parentElement) {
			const color = getComputedStyle(e).backgroundColor;
			if (!color.endsWith(", 0)")) return light(color);
		}
		return 1;
	};
	return Math.min(...[...document.querySelectorAll("p, td, th, a, h1, h2, dt, dd, span, figcaption")].map((e) => {
		const [a, b] = [light(getComputedStyle(e).color), behind(e)];
		return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
	}));
})()`

// TestPageInABrowser reads the page at the width of a phone and of a desk, by day and by night. With MIRRORGATE_SHOTS
// it keeps pictures in that folder.
func TestPageInABrowser(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", page.Policy)
		_ = page.Write(w, pagetest.Report(), "HTTPRoute shop/web")
	}))
	t.Cleanup(server.Close)
	ctx, m := browser(t)
	for _, scheme := range []string{"light", "dark"} {
		for name, width := range map[string]int64{"320": 320, "1440": 1440} {
			t.Run(name+" "+scheme, func(t *testing.T) {
				var (
					title, text, background string
					scroll                  int64
					ratio                   float64
					picture                 []byte
				)
				media := emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}})
				require.NoError(t, chromedp.Run(ctx,
					emulation.SetDeviceMetricsOverride(width, 900, 1, width < 500), media, chromedp.Navigate(server.URL),
					chromedp.Title(&title), chromedp.Text("main", &text, chromedp.ByQuery),
					chromedp.Evaluate(`document.documentElement.scrollWidth`, &scroll), chromedp.Evaluate(contrast, &ratio),
					chromedp.Evaluate(`getComputedStyle(document.body).backgroundColor`, &background), chromedp.FullScreenshot(&picture, 100),
				))
				assert.Equal(t, "different – HTTPRoute shop/web – mirrorgate compare", title)
				for _, want := range []string{"different: GET /cart/{} body.price", "replicas of the primary differ", "not drawn", "Epochs", "number → digits in text"} {
					assert.Contains(t, text, want)
				}
				assert.LessOrEqual(t, scroll, width, "the page is wider than the window")
				assert.GreaterOrEqual(t, ratio, 4.5, "text is too faint")
				assert.Equal(t, map[string]string{"light": "rgb(255, 255, 255)", "dark": "rgb(15, 19, 23)"}[scheme], background)
				if dir := os.Getenv("MIRRORGATE_SHOTS"); dir != "" {
					require.NoError(t, os.WriteFile(filepath.Join(dir, name+"-"+scheme+".png"), picture, 0o600))
				}
			})
		}
	}
	keyboard(ctx, t)
	m.mu.Lock()
	defer m.mu.Unlock()
	assert.Empty(t, m.console, "the console")
	for _, url := range m.asked {
		assert.Contains(t, []string{server.URL + "/", "data:,"}, url)
	}
}

// keyboard follows the first link with the keys alone.
func keyboard(ctx context.Context, t *testing.T) {
	t.Helper()
	var hash string
	require.NoError(t, chromedp.Run(ctx, chromedp.KeyEvent("\t"), chromedp.KeyEvent("\r"), chromedp.Evaluate(`location.hash`, &hash)))
	assert.Equal(t, "#endpoint-0", hash)
}
