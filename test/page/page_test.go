//go:build browser

package page

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

const hostile = `<img src=x onerror="document.title='pwned'"><script>document.title='pwned'</script>`

func manifest(name, address string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: prod}\nspec: {clusterIP: %s, ports: [{port: 80, name: http}]}\n", name, address)
}

// free is an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// startSyncer runs the real program on a folder of manifests.
func startSyncer(t *testing.T) (vms, http, folder string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "meshvm-syncer")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../build/meshvm-syncer").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	folder, vms, http = t.TempDir(), free(t), free(t)
	write(t, folder, "reviews", "10.0.0.1")
	write(t, folder, "ratings", "10.0.0.2")
	command := exec.CommandContext(t.Context(), binary, "--manifests", folder, "--insecure", "--listen", vms, "--http-listen", http)
	command.Stderr = t.Output()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	return vms, http, folder
}

func write(t *testing.T, folder, name, address string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name+".yaml"), []byte(manifest(name, address)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// join watches as a VM does until the test ends.
func join(t *testing.T, address, node string) {
	t.Helper()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	stream, err := registryv1.NewRegistryClient(connection).Watch(t.Context(), grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	hello := &registryv1.Hello{Node: node, Namespace: "prod", Version: "1.4.0"}
	if err := stream.Send(&registryv1.WatchRequest{Request: &registryv1.WatchRequest_Hello{Hello: hello}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
}

// seen is what the browser complained of or asked for elsewhere.
type seen struct {
	mu       sync.Mutex
	problems []string
}

func (s *seen) add(format string, arguments ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, fmt.Sprintf(format, arguments...))
}

func startBrowser(t *testing.T, origin string, s *seen, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1200, 800))
	allocator, end := chromedp.NewExecAllocator(t.Context(), append(options, more...)...)
	t.Cleanup(end)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	ctx, expire := context.WithTimeout(ctx, 90*time.Second)
	t.Cleanup(expire)
	chromedp.ListenTarget(ctx, func(event any) {
		switch event := event.(type) {
		case *runtime.EventConsoleAPICalled:
			s.add("console %s", event.Type)
		case *runtime.EventExceptionThrown:
			s.add("exception %s", event.ExceptionDetails.Text)
		case *network.EventRequestWillBeSent:
			if url := event.Request.URL; !strings.HasPrefix(url, origin) && !strings.HasPrefix(url, "data:") {
				s.add("request to %s", url)
			}
		}
	})
	return ctx
}

func TestPage(t *testing.T) {
	vms, http, folder := startSyncer(t)
	join(t, vms, "vm-one")
	s := &seen{}
	origin := "http://" + http
	ctx := startBrowser(t, origin, s)
	shots := filepath.Join("..", "..", "bin", "screenshots")
	if err := os.MkdirAll(shots, 0o750); err != nil {
		t.Fatal(err)
	}
	do := func(what string, actions ...chromedp.Action) {
		t.Helper()
		if err := chromedp.Run(ctx, actions...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	until := func(expression string) chromedp.Action {
		return chromedp.Poll(expression, nil, chromedp.WithPollingTimeout(20*time.Second), chromedp.WithPollingInterval(100*time.Millisecond))
	}
	shot := func(name string) {
		t.Helper()
		var image []byte
		do(name, chromedp.FullScreenshot(&image, 100))
		if err := os.WriteFile(filepath.Join(shots, name+".png"), image, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	scheme := func(value string) chromedp.Action {
		return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}})
	}
	to := func(view string) chromedp.Action {
		return chromedp.Evaluate("location.hash='"+view+"'", nil)
	}
	do("overview", network.Enable(), runtime.Enable(), scheme("light"), chromedp.Navigate(origin+"/status"),
		until(`document.getElementById('live').textContent==='live' && document.getElementById('ready').textContent==='ready'`))
	shot("overview-light")
	var light, dark string
	background := `getComputedStyle(document.body).backgroundColor`
	do("dark", chromedp.Evaluate(background, &light), scheme("dark"), chromedp.Evaluate(background, &dark))
	if light == dark {
		t.Errorf("light and dark are both %s", light)
	}
	shot("overview-dark")
	do("vms", scheme("light"), to("vms"), until(`document.getElementById('vmtable').textContent.includes('vm-one')`))
	// What comes after this is told by an event only: nothing else asks.
	do("no timers", chromedp.Evaluate(`for (let i = 1; i < 1000; i++) clearInterval(i)`, nil))
	join(t, vms, hostile)
	do("a VM joins", until(`document.getElementById('vmtable').textContent.includes('onerror')`))
	shot("vms-light")
	var title string
	do("title", chromedp.Title(&title))
	if title != "meshvm syncer" {
		t.Errorf("A hostile name ran: the title is %q", title)
	}
	write(t, folder, "details", "10.0.0.3")
	do("a name appears", to("overview"), until(`/Resources3/.test(document.getElementById('figures').textContent)`))
	do("search", to("registry"), chromedp.SetValue("#name", "det", chromedp.ByQuery), chromedp.Submit("#search", chromedp.ByQuery),
		until(`document.querySelector('#hosts button')`), chromedp.Click("#hosts button", chromedp.ByQuery),
		until(`document.getElementById('explanation').textContent.includes('10.0.0.3')`))
	shot("registry-light")
	do("dark", scheme("dark"))
	shot("registry-dark")
	for _, view := range []string{"replicas", "vips"} {
		do(view, to(view), until(`document.querySelector('#`+view+` dl > div, #vipbody > *')`))
		shot(view + "-dark")
	}
	var fits bool
	do("phone", scheme("light"), emulation.SetDeviceMetricsOverride(390, 800, 2, true), to("vms"), until(`!document.getElementById('vms').hidden`),
		chromedp.Evaluate(`document.documentElement.scrollWidth<=390`, &fits))
	shot("vms-phone")
	if !fits {
		t.Error("The page is wider than a phone")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.problems) > 0 {
		t.Errorf("The browser saw %q", s.problems)
	}
}
