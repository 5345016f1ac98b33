package redirect

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
)

// resolvconfMode is a program of that name, of which there are two. Either keeps records by interface, and makes /etc/resolv.conf of
// them. Ours is one more record, in /run, so that a reboot forgets it. Neither has a place for a port.
type resolvconfMode struct {
	// records are where versions of the program keep our record, folders those that it makes for it, and leaves.
	records, folders []string
	// add and away are arguments that add our record, read from standard input, and take it away.
	add, away string
	// program and options: the record has to say them, since those of others are not used beside ours.
	withOptions bool
}

// debianResolvconf is Debian's. Found out with 1.91: records of lo.* come first (interface-order), servers after a loopback one are
// left out (TRUNCATE_NAMESERVER_LIST_AFTER_LOOPBACK_ADDRESS is on unless set), options of all records are merged, and to take away a
// record that is not there does nothing, so that /etc/resolv.conf has to be asked for (-u). A killed run leaves a draft of the record
// (lo.meshvm_new.PID), which the next one takes for a record, too.
var debianResolvconf = resolvconfMode{
	records: []string{"/run/resolvconf/interface/lo.meshvm", "/run/resolvconf/interfaces/lo.meshvm"},
	add:     "-a lo.meshvm", away: "-d lo.meshvm",
}

// openresolv is the other one. Found out with 3.12: -x leaves out all others' records with their search lists and options, -m 0 has it
// before the exclusive ones of others, and with -f it is no error to take away what is not there. Its libc subscriber leaves
// /etc/resolv.conf.bak the first time that it writes, for whomever.
var openresolv = resolvconfMode{
	records: []string{"/run/resolvconf/interfaces/meshvm", "/run/resolvconf/keys/meshvm"},
	folders: []string{"/run/resolvconf/exclusive", "/run/resolvconf/metrics"},
	add:     "-x -m 0 -a meshvm", away: "-f -d meshvm",
	withOptions: true,
}

// recordFile is the record as it is given to resolvconf.
const recordFile = "/run/meshvm-redirect/resolvconf"

func (r resolvconfMode) content(p Plan, options []string) []byte {
	lines := []string{"nameserver " + p.Server.Addr().String()}
	if len(p.Search) > 0 {
		lines = append(lines, "search "+strings.Join(p.Search, " "))
	}
	if r.withOptions && len(options) > 0 {
		lines = append(lines, "options "+strings.Join(options, " "))
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

func (r resolvconfMode) addition() string { return "exec resolvconf " + r.add + " <" + recordFile }

func (r resolvconfMode) steps(p Plan) []string {
	return []string{
		"write " + recordFile + ": " + strings.ReplaceAll(strings.TrimSpace(string(r.content(p, nil))), "\n", ", "),
		"run sh -c '" + r.addition() + "'",
	}
}

func (resolvconfMode) check(_ context.Context, m Machine, p Plan) error {
	return noPort(m, p, resolvConf)
}

func (r resolvconfMode) apply(ctx context.Context, m Machine, p Plan, s *State) error {
	if err := m.remember(s); err != nil {
		return err
	}
	if err := m.expect(s, r.folders...); err != nil {
		return err
	}
	changed, err := m.put(ctx, s, recordFile, r.content(p, resolvconf.Parse(s.Before).Options))
	if err != nil {
		return err
	}
	if !changed && s.settled {
		missing, err := r.holds(m, p, s)
		if err != nil || len(missing) == 0 {
			return err
		}
	}
	return m.command(ctx, "sh", "-c", r.addition())
}

func (r resolvconfMode) holds(m Machine, p Plan, s *State) ([]string, error) {
	same, err := m.has(recordFile, r.content(p, resolvconf.Parse(s.Before).Options))
	if err != nil {
		return nil, err
	}
	there, err := r.kept(m)
	if err != nil {
		return nil, err
	}
	if !same || !there {
		return []string{"resolvconf does not have our record as it was written"}, nil
	}
	return m.asksOnly(p.Server)
}

func (r resolvconfMode) kept(m Machine) (bool, error) {
	for _, record := range r.records {
		if there, err := m.exists(record); err != nil || there {
			return there, err
		}
	}
	return false, nil
}

// drafts are what killed runs of the program have left of our record.
func (r resolvconfMode) drafts(m Machine) []string {
	var drafts []string
	for _, record := range r.records {
		found, _ := filepath.Glob(m.Path(record) + "_new.*") // The pattern is well-formed, which is all that it fails for.
		for _, draft := range found {
			drafts = append(drafts, filepath.Join(filepath.Dir(record), filepath.Base(draft)))
		}
	}
	return drafts
}

func (r resolvconfMode) present(m Machine) (bool, error) {
	there, err := r.kept(m)
	return there || len(r.drafts(m)) > 0, err
}

// commandNotFound is what a shell exits with.
const commandNotFound = 127

func (r resolvconfMode) revert(ctx context.Context, m Machine, s *State) error {
	there, err := r.present(m)
	if err != nil {
		return err
	}
	for _, draft := range r.drafts(m) {
		if err := m.removeOne(draft); err != nil {
			return err
		}
	}
	// A record that is gone may be one that the program was killed over, before it made /etc/resolv.conf anew.
	if there || s != nil {
		err := m.command(ctx, "sh", "-c", "resolvconf "+r.away+" && exec resolvconf -u")
		if failed, ok := errors.AsType[*exec.ExitError](err); ok && failed.ExitCode() == commandNotFound {
			err = m.removeRecords(r.records) // It was removed, and its file is nobody's any more.
		}
		if err != nil {
			return err
		}
	}
	return m.remove(recordFile)
}

func (m Machine) removeRecords(records []string) error {
	var failures []error
	for _, record := range records {
		failures = append(failures, m.removeOne(record))
	}
	return errors.Join(failures...)
}
