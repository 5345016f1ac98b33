package main

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"
)

func TestTerminal(t *testing.T) {
	tests := []struct {
		name  string
		write []string
		want  string
	}{
		{"what people read", []string{"HOST\tADDRESSES\nbücher.example 中\n"}, "HOST\tADDRESSES\nbücher.example 中\n"},
		{"an escape sequence", []string{"a\x1b[2Jb\x07"}, "a?[2Jb?"},
		{"one of a single byte", []string{"a\u009b2Jb\x7f"}, "a?2Jb?"},
		{"a return to the start of the line", []string{"denied\rgranted"}, "denied?granted"},
		{"a text turned round", []string{"a\u202eb\u2066c"}, "a?b?c"},
		{"no UTF-8", []string{"a\xffb\xc3("}, "a?b?("},
		{"a character in two writes", []string{"b\xc3", "\xbccher"}, "bücher"},
		{"an escape sequence in two writes", []string{"\xc2", "\x9b2J"}, "?2J"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got bytes.Buffer
			out := &terminal{to: &got}
			for _, text := range test.write {
				if n, err := out.Write([]byte(text)); n != len(text) || err != nil {
					t.Fatalf("Write: got %d, %v, want %d", n, err, len(text))
				}
			}
			if got.String() != test.want {
				t.Errorf("Written: got %q, want %q", got.String(), test.want)
			}
		})
	}
	t.Run("nobody reads", func(t *testing.T) {
		if _, err := (&terminal{to: broken{}}).Write([]byte("a")); !errors.Is(err, errBroken) {
			t.Errorf("Write: got %v, want %v", err, errBroken)
		}
	})
}

var errBroken = errors.New("broken pipe")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

// TestHostileSyncer: whatever a syncer answers, a terminal only shows it.
func TestHostileSyncer(t *testing.T) {
	const evil = `\u001b]0;owned\u0007\u009b2J\u202e\r`
	pages := map[string]struct {
		code int
		body string
		args []string
	}{
		"a table of virtual IPs": {http.StatusOK, `{"hosts":[{"host":"` + evil + `","note":"` + evil + `","state":"` + evil + `"}]}`, []string{"vips"}},
		"an explanation":         {http.StatusOK, `{"name":"` + evil + `","reason":"` + evil + `","cluster_domain":"` + evil + `"}`, []string{"lookup", "a.example.com"}},
		"an explanation as JSON": {http.StatusOK, `{"name":"` + evil + `","reason":"` + evil + `"}`, []string{"lookup", "--output", "json", "a.example.com"}},
		"a refusal":              {http.StatusBadRequest, "\x1b]0;owned\x07\u009b2J\u202e\r", []string{"lookup", "a.example.com"}},
		"an error":               {http.StatusTeapot, "\x1b]0;owned\x07\u009b2J\u202e\r", []string{"vips"}},
		"something else":         {http.StatusOK, "\x1b]0;owned\x07", []string{"vips"}},
	}
	for name, page := range pages {
		t.Run(name, func(t *testing.T) {
			syncer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(page.code)
				_, _ = w.Write([]byte(page.body)) // what does not arrive fails the test below
			}))
			defer syncer.Close()
			var stdout, stderr bytes.Buffer
			args := append([]string{page.args[0], "--http", syncer.Listener.Addr().String()}, page.args[1:]...)
			run(t.Context(), args, &stdout, &stderr)
			printed := stdout.String() + stderr.String()
			if printed == "" {
				t.Error("Printed: got nothing")
			}
			if i := strings.IndexFunc(printed, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("Printed: got %q at %d of %q, want what can be printed", printed[i:][:1], i, printed)
			}
		})
	}
}

// TestColours: a terminal is shown colours, nobody else, and no text can command it.
func TestColours(t *testing.T) {
	show := func(colours bool) string {
		var got bytes.Buffer
		p := newPrinter(&terminal{to: &got, colours: colours})
		p.headline(true, "good")
		p.section("title", func(row func(...string)) {
			row("name", "evil \x1b[31m")
			row("fault", "bad")
			row("a longer name", "text")
		})
		if err := p.w.Flush(); err != nil {
			t.Fatal(err)
		}
		return got.String()
	}
	const plainText = "good\n\ntitle\nname           evil ?[31m\nfault          bad\na longer name  text\n"
	if got := show(false); got != plainText {
		t.Errorf("Without colours: got %q, want %q", got, plainText)
	}
	want := "\x1b[32mgood\x1b[0m\n\n\x1b[1mtitle\x1b[0m\nname           evil ?[31m\n\x1b[31mfault          bad\x1b[0m\na longer name  text\n"
	if got := show(true); got != want {
		t.Errorf("With colours: got %q, want %q", got, want)
	}
	if coloured(&bytes.Buffer{}) {
		t.Error("A buffer is taken for a terminal")
	}
}
