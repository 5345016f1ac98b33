package doctor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/meshvm/meshvm/plugin/status"
)

// soon is when a credential that nobody has renewed worries.
const soon = 15 * time.Minute

// credentials looks when they end.
func credentials(_ context.Context, e *examination) []Finding {
	if e.reportErr != nil {
		return []Finding{bad(Unknown, "see the check status socket", "CoreDNS does not say what it proves itself with")}
	}
	var findings []Finding
	for _, mirror := range e.report.Mirrors {
		for _, c := range mirror.Credentials {
			left := c.Expires.Sub(e.now()).Round(time.Second)
			remedy := "meshvmctl token renews it: see meshvmctl token --help"
			if c.Kind != "token" {
				remedy = "have whoever issues it renew it"
			}
			switch {
			case c.Fault != "":
				findings = append(findings, bad(Problem, remedy, "the %s in %s cannot be used: %s", c.Kind, c.File, c.Fault))
			case c.Expires.IsZero():
			case left <= 0:
				findings = append(findings, bad(Problem, remedy, "the %s in %s ended %s ago", c.Kind, c.File, -left))
			case left < soon:
				findings = append(findings, bad(Warning, remedy, "the %s in %s ends in %s", c.Kind, c.File, left))
			}
		}
	}
	if !slices.ContainsFunc(e.report.Mirrors, func(m status.Mirror) bool { return len(m.Credentials) > 0 }) {
		return []Finding{fine("CoreDNS has none, and needs none only where the syncer asks for none")}
	}
	return orFine(findings, "none ends within %s", soon)
}

// permissions looks who else can read secrets.
func permissions(_ context.Context, e *examination) []Finding {
	files := []string{"/etc/meshvm/token", "/etc/meshvm/key.pem", "/etc/certs/key.pem"}
	for _, mirror := range e.report.Mirrors {
		for _, c := range mirror.Credentials {
			if c.Kind == "token" {
				files = append(files, c.File)
			}
		}
	}
	var findings []Finding
	seen := make(map[string]bool)
	for _, file := range files {
		info, err := os.Stat(e.path(file))
		if err != nil || seen[file] {
			continue // that one is missing is CoreDNS's to say
		}
		seen[file] = true
		if mode := info.Mode().Perm(); mode&0o007 != 0 {
			findings = append(findings, bad(Problem, "chmod o= "+file, "all users of the VM have access to %s (%s)", file, mode))
		} else if mode&0o020 != 0 {
			findings = append(findings, bad(Warning, "chmod g-w "+file, "its group can write %s (%s)", file, mode))
		}
	}
	return orFine(findings, "secrets are CoreDNS's alone")
}

// clock looks whether it is synchronized, and whether the VM's certificates have begun by it.
func clock(ctx context.Context, e *examination) []Finding {
	var findings []Finding
	for _, mirror := range e.report.Mirrors {
		for _, c := range mirror.Credentials {
			if c.Kind != "certificate" {
				continue
			}
			content, err := e.read(c.File)
			if err != nil {
				findings = append(findings, unknown("run doctor as root", err))
				continue
			}
			if block, _ := pem.Decode([]byte(content)); block != nil {
				certificate, err := x509.ParseCertificate(block.Bytes)
				if err == nil && e.now().Before(certificate.NotBefore) {
					findings = append(findings, behind(e.now(), certificate.NotBefore, "the VM's own certificate"))
				}
			}
		}
	}
	shown, err := e.run(ctx, "timedatectl", "show", "-p", "NTPSynchronized", "--value")
	switch {
	case err != nil:
		findings = append(findings, unknown("see that something synchronizes the clock", err))
	case strings.TrimSpace(shown) != "yes":
		findings = append(findings, bad(Warning, "timedatectl set-ntp true, or install chrony", "the clock is not synchronized"))
	}
	return orFine(findings, "the clock is synchronized: %s", e.now().UTC().Format(time.RFC3339))
}

func behind(now, begins time.Time, what string) Finding {
	return bad(Problem, "set the clock: timedatectl set-ntp true", "by this clock it is %s, and %s begins in %s only",
		now.UTC().Format(time.RFC3339), what, begins.Sub(now).Round(time.Second))
}
