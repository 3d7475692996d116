// The page of a comparison in a real browser, Debian's Chromium.

package interop_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
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
		m.console = append(m.console, e.ExceptionDetails.Text)
	case *network.EventRequestWillBeSent:
		m.asked = append(m.asked, e.Request.URL)
	}
}

// browser starts Chromium until the test ends.
func browser(t *testing.T) (context.Context, *messages) {
	t.Helper()
	require.NoError(t, debian.Need(t.Context(), "chromium", "chromium", "fonts-dejavu-core"))
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.NoSandbox, chromedp.ExecPath("chromium"))
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	m := &messages{}
	require.NoError(t, chromedp.Do(ctx)) // starts it
	require.NoError(t, chromedp.Listen(ctx, m.listen))
	call(ctx, t, log.Enable, cdp.Empty{})
	call(ctx, t, network.Enable, network.EnableParams{})
	call(ctx, t, runtime.Enable, cdp.Empty{})
	return ctx, m
}

// call gives the browser a command of its protocol.
func call[P, R any](ctx context.Context, t *testing.T, command cdp.Command[P, R], params P) {
	t.Helper()
	_, err := chromedp.Call(ctx, command, params)
	require.NoError(t, err)
}

// act runs an action in the browser.
func act[T any](ctx context.Context, t *testing.T, action chromedp.Action[T]) T {
	t.Helper()
	result, err := chromedp.Run(ctx, action)
	require.NoError(t, err)
	return result
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
				call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
				})
				call(ctx, t, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
					Width: width, Height: 900, DeviceScaleFactor: 1, Mobile: width < 500,
				})
				act(ctx, t, chromedp.Navigate(server.URL))
				title := act(ctx, t, chromedp.Evaluate[string](`document.title`))
				text := act(ctx, t, chromedp.Evaluate[string](`document.querySelector("main").innerText`))
				scroll := act(ctx, t, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`))
				ratio := act(ctx, t, chromedp.Evaluate[float64](contrast))
				background := act(ctx, t, chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`))
				assert.Equal(t, "different – HTTPRoute shop/web – mirrorgate compare", title)
				for _, want := range []string{"different: GET /cart/{} body.price", "replicas of the primary differ", "not drawn", "Epochs", "number → digits in text"} {
					assert.Contains(t, text, want)
				}
				assert.LessOrEqual(t, scroll, width, "the page is wider than the window")
				assert.GreaterOrEqual(t, ratio, 4.5, "text is too faint")
				assert.Equal(t, map[string]string{"light": "rgb(255, 255, 255)", "dark": "rgb(15, 19, 23)"}[scheme], background)
				if dir := os.Getenv("MIRRORGATE_SHOTS"); dir != "" {
					picture := act(ctx, t, chromedp.FullScreenshot(100))
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
	act(ctx, t, chromedp.KeyEvent("\t"))
	act(ctx, t, chromedp.KeyEvent("\r"))
	assert.Equal(t, "#endpoint-0", act(ctx, t, chromedp.Evaluate[string](`location.hash`)))
}
