package registry

import (
	"strings"
	"testing"
)

func TestParseExportTo(t *testing.T) {
	tests := map[string]struct {
		values []string
		want   string // of String
		err    string
	}{
		"everyone":              {values: []string{"*"}, want: "*"},
		"own namespace":         {values: []string{"."}, want: "prod"},
		"nobody":                {values: []string{"~"}, want: "~"},
		"namespaces":            {values: []string{"b", "a", "b"}, want: "a,b"},
		"own and another":       {values: []string{".", "dev"}, want: "dev,prod"},
		"everyone and another":  {values: []string{"dev", "*"}, want: "*"},
		"spaces around":         {values: []string{" dev", "qa "}, want: "dev,qa"},
		"nobody and another":    {values: []string{"~", "dev"}, err: "~ stands alone"},
		"nothing":               {values: nil, err: "exportTo is empty"},
		"no name of namespaces": {values: []string{"Dev"}, err: `exportTo "Dev": want *, ., ~ or the name of a namespace`},
		"empty value":           {values: []string{""}, err: `exportTo ""`},
		"too long":              {values: []string{strings.Repeat("a", 64)}, err: "want *"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseExportTo(tc.values, "prod")
			switch {
			case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
				t.Errorf("Error: got %v, want one with %q", err, tc.err)
			case tc.err == "" && err != nil:
				t.Errorf("Error: got %v, want none", err)
			case tc.err == "" && got.String() != tc.want:
				t.Errorf("Got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestVisibilityIn(t *testing.T) {
	tests := map[string]struct {
		visibility Visibility
		namespace  string
		want       bool
	}{
		"public":           {Public(), "any", true},
		"public, no name":  {Public(), "", true},
		"nobody":           {Nobody(), "any", false},
		"the zero value":   {Visibility{}, "any", false},
		"named":            {VisibleTo("b", "a"), "a", true},
		"not named":        {VisibleTo("b", "a"), "c", false},
		"a prefix of it":   {VisibleTo("abc"), "ab", false},
		"the empty string": {VisibleTo("b", "a"), "", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tc.visibility.In(tc.namespace); got != tc.want {
				t.Errorf("In(%q): got %t, want %t", tc.namespace, got, tc.want)
			}
		})
	}
}
