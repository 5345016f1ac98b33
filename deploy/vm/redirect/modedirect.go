package redirect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
)

// direct is /etc/resolv.conf itself. Whatever was last there from others is in the Backup: when a DHCP client writes the file anew and
// it is taken over again, that is what a revert puts back.
type direct struct{}

func (direct) steps(p Plan) []string {
	line := "write " + resolvConf + ": nameserver " + p.Server.Addr().String()
	if len(p.Search) > 0 {
		line += ", its search list, and all else that is in it"
	} else {
		line += ", and all else that is in it"
	}
	return []string{"remember " + resolvConf + " as it is in " + StateFile, line}
}

func (direct) check(_ context.Context, m Machine, p Plan) error {
	if m.immutable(resolvConf) {
		return &Impossible{resolvConf + " is immutable: " + leaveAlone}
	}
	return noPort(m, p, resolvConf)
}

func (d direct) apply(ctx context.Context, m Machine, p Plan, s *State) error {
	current, err := os.ReadFile(m.Path(resolvConf))
	if unlessMissing(err) != nil {
		return fmt.Errorf("read %s: %w", resolvConf, err)
	}
	if !written(current) {
		backup, err := m.backUp(resolvConf)
		if err != nil {
			return fmt.Errorf("back up %s: %w", resolvConf, err)
		}
		s.Backup = backup
		if err := s.save(m); err != nil {
			return err
		}
	}
	wanted := d.content(current, p, s)
	if bytes.Equal(current, wanted) {
		return nil
	}
	if err := d.put(ctx, m, current, wanted, s); err != nil {
		return m.explainRefusal(resolvConf, err)
	}
	return m.forget(ctx)
}

// put has the file replaced, or rewritten where that cannot be.
func (d direct) put(ctx context.Context, m Machine, current, wanted []byte, s *State) error {
	if s.Backup == nil || !s.Backup.InPlace {
		if err := m.replace(resolvConf, wanted, 0o644, ours); !mounted(err) {
			if err != nil {
				return err
			}
			return m.relabel(ctx, resolvConf)
		}
	}
	return d.inPlace(m, current, wanted, s)
}

// forget has systemd-resolved forget what it was answered. Where it is not what the C library asks first it may still be asked by others,
// and it has the file that was changed for its own upstreams.
func (m Machine) forget(ctx context.Context) error {
	running, err := m.active(ctx, resolvedUnit)
	if err != nil || !running || m.stopping(ctx) {
		return err
	}
	if err = m.command(ctx, "resolvectl", "flush-caches"); errors.Is(err, exec.ErrNotFound) {
		return nil // Versions before 239 have none, and what they remember expires.
	}
	return err
}

// content is /etc/resolv.conf as it is to be.
func (direct) content(current []byte, p Plan, s *State) []byte {
	base, generated := current, false
	switch {
	case s.Backup == nil:
	case s.Backup.Target != "":
		generated = true // Who keeps a file elsewhere generates it.
	case !s.Backup.Missing:
		base = s.Backup.Content
	}
	return rewritten(base, generated, []netip.Addr{p.Server.Addr()}, p.Search)
}

// inPlace rewrites the file that cannot be replaced.
func (direct) inPlace(m Machine, current, wanted []byte, s *State) error {
	if s.Backup != nil && !s.Backup.InPlace {
		info, err := os.Stat(m.Path(resolvConf))
		if err != nil {
			return err
		}
		s.Backup.InPlace = true
		s.Backup.describe(info)
		if s.Backup.Target != "" {
			s.Backup.Content = current
		}
		if err := s.save(m); err != nil {
			return err
		}
	}
	return m.rewrite(resolvConf, wanted)
}

func (d direct) holds(m Machine, p Plan, s *State) ([]string, error) {
	current, err := os.ReadFile(m.Path(resolvConf))
	if unlessMissing(err) != nil {
		return nil, err
	}
	if !written(current) {
		return []string{resolvConf + " was written by others"}, nil
	}
	if !bytes.Equal(current, d.content(current, p, s)) {
		return []string{resolvConf + " was edited"}, nil
	}
	return nil, nil
}

func (direct) present(m Machine) (bool, error) {
	current, err := os.ReadFile(m.Path(resolvConf))
	if unlessMissing(err) != nil {
		return false, err
	}
	draftLeft, err := m.exists(draft(resolvConf))
	return written(current) || draftLeft, err
}

func (d direct) revert(ctx context.Context, m Machine, s *State) error {
	if err := m.removeOne(draft(resolvConf)); err != nil {
		return err
	}
	current, err := os.ReadFile(m.Path(resolvConf))
	if unlessMissing(err) != nil {
		return fmt.Errorf("read %s: %w", resolvConf, err)
	}
	torn := s != nil && d.torn(current, s)
	if !written(current) && !torn {
		return nil // Somebody else has written it since, for the network of today.
	}
	if s != nil && s.Backup != nil {
		err = errors.Join(d.regenerate(ctx, m, s), m.restoreOurs(ctx, s.Backup, torn))
	} else {
		err = d.writeUpstreams(ctx, m)
	}
	return errors.Join(err, m.forget(ctx))
}

// torn: a rewrite in place, there or back, was killed half way. Whatever else is in the file is somebody else's.
func (d direct) torn(current []byte, s *State) bool {
	if s.Backup == nil || !s.Backup.InPlace {
		return false
	}
	theirs := s.Backup.Content
	ours := d.content(theirs, s.Plan, s)
	return halfway(current, ours, theirs) || halfway(current, theirs, ours)
}

// halfway: content has the beginning of what was being written, and behind it what was there before.
func halfway(content, before, written []byte) bool {
	n := 0
	for n < min(len(content), len(written)) && content[n] == written[n] {
		n++
	}
	return len(content) >= len(before) && bytes.Equal(content[n:], before[min(n, len(before)):])
}

// restoreOurs puts a Backup back unless the file is somebody else's by now.
func (m Machine) restoreOurs(ctx context.Context, b *Backup, torn bool) error {
	current, err := os.ReadFile(m.Path(resolvConf))
	if unlessMissing(err) != nil || !written(current) && !torn {
		return unlessMissing(err)
	}
	if err := m.putBack(resolvConf, b); err != nil {
		return m.explainRefusal(resolvConf, err)
	}
	if b.InPlace || b.Missing || b.Target != "" {
		return nil // What was rewritten has its label still.
	}
	return m.relabel(ctx, resolvConf)
}

// regenerate asks those who write /etc/resolv.conf to do so, where the Backup is of an earlier boot, and perhaps of another network. A
// DHCP client writes it by itself when it has its lease, and what nobody writes is as good as it was.
func (direct) regenerate(ctx context.Context, m Machine, s *State) error {
	boot, err := m.boot()
	if err != nil || boot == s.Boot || s.Backup.Target != "" || s.Backup.Missing {
		return err
	}
	if running, err := m.active(ctx, "NetworkManager.service"); err == nil && running {
		return m.command(ctx, "nmcli", "general", "reload", "dns-rc")
	}
	if netconfig, err := m.exists("/sbin/netconfig"); err != nil || !netconfig {
		return err
	}
	return m.command(ctx, "netconfig", "update", "-f")
}

// writeUpstreams has the C library ask those whom CoreDNS has forwarded to, where nobody knows any more what was here.
func (direct) writeUpstreams(ctx context.Context, m Machine) error {
	there, err := m.exists(stubFile)
	if err != nil {
		return err
	}
	if running, err := m.active(ctx, resolvedUnit); err == nil && running && there {
		return m.link(resolvConf, ".."+stubFile)
	}
	return m.nameServers(ctx, nil)
}
