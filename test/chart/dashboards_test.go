//go:build chart

package chart

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// dashboard is what is looked at of a Grafana dashboard.
type dashboard struct {
	file       string
	UID        string `json:"uid"`
	Title      string
	Panels     []panel
	Templating struct {
		List []struct{ Name, Definition string }
	}
}

type panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Datasource  struct{ UID string }
	Targets     []struct{ RefID, Expr string }
}

func dashboards(t *testing.T) []dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chartFolder(), "dashboards", "*.json"))
	if err != nil || len(files) != 3 {
		t.Fatalf("got %v and %v, want three dashboards", files, err)
	}
	var all []dashboard
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d := dashboard{file: filepath.Base(file)}
		if err := json.Unmarshal(content, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, d)
	}
	return all
}

// TestDashboardsAreWellFormed: what Grafana does not say, and shows wrongly.
func TestDashboardsAreWellFormed(t *testing.T) {
	for _, d := range dashboards(t) {
		t.Run(d.file, func(t *testing.T) {
			if d.UID == "" || d.UID+".json" != d.file || d.Title == "" {
				t.Errorf("got uid %q and title %q, want the uid to be the file's name", d.UID, d.Title)
			}
			ids, taken := map[int]bool{}, map[[2]int]string{}
			for _, p := range d.Panels {
				if ids[p.ID] {
					t.Errorf("%s: id %d is another panel's, too", p.Title, p.ID)
				}
				ids[p.ID] = true
				if p.GridPos.X+p.GridPos.W > 24 {
					t.Errorf("%s is off the grid", p.Title)
				}
				for x := range p.GridPos.W {
					for y := range p.GridPos.H {
						at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
						if other, there := taken[at]; there {
							t.Fatalf("%s overlaps %s", p.Title, other)
						}
						taken[at] = p.Title
					}
				}
				if p.Type == "row" {
					continue
				}
				if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
					t.Errorf("%s: got data source %q and %d queries, want ${datasource} and some", p.Title, p.Datasource.UID, len(p.Targets))
				}
				refs := map[string]bool{}
				for _, target := range p.Targets {
					if target.RefID == "" || refs[target.RefID] || target.Expr == "" {
						t.Errorf("%s: query %q %q: want an expression, and a letter of its own", p.Title, target.RefID, target.Expr)
					}
					refs[target.RefID] = true
				}
			}
		})
	}
}
