package bootstrap

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func bundle(token string) Bundle {
	return Bundle{Corefile: ". {\n}\n", Authorities: Authorities("authority\n"), Token: &Token{secret: token}}
}

// tree is every file below a folder, with its content.
func tree(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		files[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func expectTree(t *testing.T, folder string, want map[string]string) {
	t.Helper()
	if got := tree(t, folder); !maps.Equal(got, want) {
		t.Errorf("Files: got %q, want %q", got, want)
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func files(token string) map[string]string {
	return map[string]string{"Corefile": ". {\n}\n", "ca.pem": "authority\n", "token": token + "\n"}
}

// TestInterruptedWrite lets each step of writing fail, and looks at the disk as a machine that dies then leaves it.
func TestInterruptedWrite(t *testing.T) {
	errBroken := errors.New("disk is broken")
	for _, test := range []struct {
		name    string
		there   bool // an older bundle is
		renames int
	}{
		{"into a new folder", false, 1},
		{"over an older bundle", true, 3},
	} {
		for step := range test.renames {
			t.Run(fmt.Sprintf("%s, step %d", test.name, step+1), func(t *testing.T) {
				parent, dead := t.TempDir(), filepath.Join(t.TempDir(), "dead")
				out := filepath.Join(parent, "vm")
				before := map[string]string{}
				if test.there {
					if err := bundle("old").Write(out, false); err != nil {
						t.Fatal(err)
					}
					before = files("old")
				}
				done := 0
				failing := disk{rename: func(from, to string) error {
					if done == step {
						if err := os.CopyFS(dead, os.DirFS(parent)); err != nil {
							t.Fatal(err)
						}
						return errBroken
					}
					done++
					return os.Rename(from, to)
				}}
				if err := failing.write(bundle("new"), out, false); !errors.Is(err, errBroken) {
					t.Fatalf("Got %v, want %v", err, errBroken)
				}

				// What is there is of one or the other, whole; nothing else is left.
				got := map[string]string{}
				if test.there {
					got = tree(t, out)
				}
				if step > 0 {
					before["token"] = "new\n" // the first to be renamed
				}
				if !maps.Equal(got, before) {
					t.Errorf("After the failure: got %q, want %q", got, before)
				}
				if entries, err := os.ReadDir(parent); err != nil || len(entries) != len(before)/3 {
					t.Errorf("After the failure: got %v beside it, %v; want nothing", entries, err)
				}

				// A machine that died: none of the bundle's files is torn, and the next run ends in order.
				for name, content := range tree(t, dead) {
					base := filepath.Base(name)
					if filepath.Dir(name) == "vm" && !strings.HasPrefix(base, ".") && content != files("old")[base] && content != files("new")[base] {
						t.Errorf("After a crash: got %s with %q, want the old or the new", name, content)
					}
				}
				again := filepath.Join(dead, "vm")
				if err := bundle("again").Write(again, false); err != nil {
					t.Fatalf("After a crash: %v", err)
				}
				expectTree(t, again, files("again"))
			})
		}
	}
}

func TestWrite(t *testing.T) {
	other := bundle("other")
	other.Corefile = ".:1053 {\n}\n"
	certificates := Bundle{Corefile: ". {\n}\n"}
	tests := map[string]struct {
		there  map[string]string
		bundle Bundle
		force  bool
		refuse string // empty: it is written
		want   map[string]string
	}{
		"into an empty folder":        {nil, bundle("a"), false, "", files("a")},
		"over the same":               {files("a"), bundle("b"), false, "", files("b")},
		"over the same, with others":  {with(files("a"), "resolv.conf", "mine"), bundle("b"), false, "", with(files("b"), "resolv.conf", "mine")},
		"over the same, token lost":   {with(files("a"), "token", ""), bundle("b"), false, "", files("b")},
		"over an interrupted run":     {with(nil, ".token-123.tmp", "a"), bundle("b"), false, "", files("b")},
		"over another":                {files("a"), other, false, "Corefile is there already and is another", files("a")},
		"over another, by force":      {files("a"), other, true, "", with(files("other"), "Corefile", ".:1053 {\n}\n")},
		"beside others":               {with(nil, "notes", "mine"), bundle("b"), false, "has other files", with(nil, "notes", "mine")},
		"beside others, by force":     {with(nil, "notes", "mine"), bundle("b"), true, "", with(files("b"), "notes", "mine")},
		"over a token of no bundle":   {with(nil, "token", "mine"), bundle("b"), false, "has other files", with(nil, "token", "mine")},
		"without a token, by force":   {with(files("a"), "resolv.conf", "mine"), certificates, true, "", map[string]string{"Corefile": ". {\n}\n", "resolv.conf": "mine"}},
		"hidden files are others too": {with(nil, ".bashrc", "mine"), bundle("b"), false, "has other files", with(nil, ".bashrc", "mine")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			for file, content := range test.there {
				put(t, filepath.Join(out, file), content)
			}
			checked := test.bundle.Check(out, test.force)
			err := test.bundle.Write(out, test.force)
			if fmt.Sprint(checked) != fmt.Sprint(err) {
				t.Errorf("Check: got %v, want what Write says: %v", checked, err)
			}
			switch {
			case test.refuse == "" && err != nil:
				t.Errorf("Got %v, want it written", err)
			case test.refuse != "" && (err == nil || !strings.Contains(err.Error(), test.refuse) || !strings.Contains(err.Error(), "--force")):
				t.Errorf("Got %v, want %q and --force", err, test.refuse)
			}
			expectTree(t, out, test.want)
		})
	}
}

// with is files and one more, or one less where its content is empty.
func with(files map[string]string, name, content string) map[string]string {
	files = maps.Clone(files)
	if files == nil {
		files = map[string]string{}
	}
	if files[name] = content; content == "" {
		delete(files, name)
	}
	return files
}

func TestWriteNotThroughLinks(t *testing.T) {
	out, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "precious")
	put(t, elsewhere, "mine")
	if err := os.Symlink(elsewhere, filepath.Join(out, "token")); err != nil {
		t.Fatal(err)
	}
	for _, force := range []bool{false, true} {
		if err := bundle("a").Write(out, force); err == nil || !strings.Contains(err.Error(), "token is not a regular file") {
			t.Errorf("Got %v, want a refusal that names the file", err)
		}
	}
	if err := WriteToken(filepath.Join(out, "token"), Token{secret: "a"}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Got %v, want a refusal", err)
	}
	expectTree(t, filepath.Dir(elsewhere), map[string]string{"precious": "mine"})
}

func TestWriteToken(t *testing.T) {
	t.Run("keeps its owner", func(t *testing.T) {
		folder := t.TempDir()
		path := filepath.Join(folder, "token")
		put(t, path, "old")
		owner := os.Getuid()
		if owner == 0 {
			owner = 4711 // only root may give files away
		}
		if err := os.Chown(path, owner, -1); err != nil {
			t.Fatal(err)
		}
		if err := WriteToken(path, Token{secret: "new"}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := ownerOf(info); got != owner {
			t.Errorf("Owner: got %d, want %d", got, owner)
		}
		expectTree(t, folder, map[string]string{"token": "new\n"})
	})
	t.Run("interrupted", func(t *testing.T) {
		folder := t.TempDir()
		path := filepath.Join(folder, "token")
		put(t, path, "old")
		errBroken := errors.New("disk is broken")
		broken := disk{rename: func(string, string) error { return errBroken }}
		if err := broken.writeToken(path, Token{secret: "new"}); !errors.Is(err, errBroken) {
			t.Errorf("Got %v, want %v", err, errBroken)
		}
		expectTree(t, folder, map[string]string{"token": "old"})
	})
}

// TestTokenIsNotPrinted in any of the ways in which a struct ends up in a log.
func TestTokenIsNotPrinted(t *testing.T) {
	b := bundle("hush-hush")
	printed := []string{
		fmt.Sprint(b, *b.Token, b.Token), fmt.Sprintf("%v %+v %#v %s %q", *b.Token, *b.Token, *b.Token, *b.Token, *b.Token),
		fmt.Sprintf("%v %+v %#v", b, b, b.Token), fmt.Sprint(errors.Unwrap(fmt.Errorf("x: %w", fs.ErrExist)), b.Token),
	}
	if slices.ContainsFunc(printed, func(text string) bool { return strings.Contains(text, "hush") }) {
		t.Errorf("Got %q, want no secret", printed)
	}
}
