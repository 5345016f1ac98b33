package redirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
)

// Revert gives resolution back to its owner, who is asked to write its state anew where it can. It is the same after any Apply,
// finished or killed at any step, after a reboot, without a State, and when it was done before. After an error it may be called again:
// the State stays until all is undone.
func Revert(ctx context.Context, m Machine) (Outcome, error) {
	return revert(ctx, m, "")
}

// Withdraw is Revert while CoreDNS cannot answer: the State stays, with Withdrawn, so that Apply takes over again once it can. Why is what
// happened. Without a State it is Revert.
func Withdraw(ctx context.Context, m Machine, why string) (Outcome, error) {
	return revert(ctx, m, "since "+time.Now().UTC().Format(time.RFC3339)+": "+why)
}

func revert(ctx context.Context, m Machine, withdrawn string) (Outcome, error) {
	unlock, err := m.lock(ctx)
	if err != nil {
		return Outcome{}, fmt.Errorf("revert the redirect: %w", err)
	}
	defer unlock()
	state, warnings, err := takeState(m)
	if err != nil {
		return Outcome{}, fmt.Errorf("revert the redirect: %w", err)
	}
	outcome := Outcome{Warnings: warnings}
	if state != nil && state.Withdrawn != "" && withdrawn != "" {
		return outcome, nil // It says since when already.
	}
	if outcome.Changed, err = undo(ctx, m, state, withdrawn); err != nil {
		return outcome, fmt.Errorf("revert the redirect: %w", err)
	}
	return outcome, nil
}

// undo puts the machine back from any mode, and goes on where one fails. With withdrawn the State stays and says so.
func undo(ctx context.Context, m Machine, s *State, withdrawn string) (changed bool, err error) {
	var unsaved error
	if s != nil && s.Applied {
		// A disk that is full keeps nobody from resolution: the State that is on it knows enough for another revert.
		s.Applied = false
		unsaved = s.save(m)
	}
	// The rules come first: a program that cannot be answered any more is to reach its resolver soonest.
	failures := []error{revertTransparent(ctx, m)}
	boot, unknown := m.boot()
	failures = append(failures, unknown)
	for _, name := range modes() {
		// What is in /run went with its boot. Direct is in /etc.
		known := s != nil && s.Plan.Mode == name && s.Withdrawn == "" && (s.Boot == boot || unknown != nil || name == Direct)
		there, err := modeOf(name).present(m)
		if err != nil {
			failures = append(failures, err)
		}
		if !there && !known {
			continue
		}
		changed = true
		var remembered *State
		if known {
			remembered = s
		}
		if err := modeOf(name).revert(ctx, m, remembered); err != nil {
			failures = append(failures, fmt.Errorf("mode %s: %w", name, err))
		}
	}
	if s == nil {
		return changed, errors.Join(append(failures, m.remove(StateFile))...) // A kill may have left a draft of it.
	}
	changed = changed || s.hasRules()
	failures = append(failures, m.leaveNobodyAlone(ctx, s), m.removeFolders(s))
	if err := errors.Join(failures...); err != nil {
		return changed, errors.Join(unsaved, err)
	}
	if withdrawn == "" {
		return changed, m.remove(StateFile)
	}
	s.Withdrawn, s.Backup, s.Before, s.Rules = withdrawn, nil, nil, false
	return changed, s.save(m)
}

// leaveNobodyAlone holds that /etc/resolv.conf does not go on naming CoreDNS where its owner should have written it anew and did not, as
// where it does not run any more.
func (m Machine) leaveNobodyAlone(ctx context.Context, s *State) error {
	if s.Plan.Mode != NetworkManager && s.Plan.Mode != Resolvconf && s.Plan.Mode != Openresolv || s.Withdrawn != "" {
		return nil
	}
	servers, err := m.servers()
	if err != nil || !slices.Equal(servers, []netip.Addr{s.Plan.Server.Addr()}) {
		return err
	}
	m.known = append(m.known, s.Plan.Upstreams...)
	return m.nameServers(ctx, s.Before)
}

// nameServers has /etc/resolv.conf name the machine's resolvers, and else say what it said before. A symbolic link stays, and what is
// behind it is rewritten.
func (m Machine) nameServers(ctx context.Context, before []byte) error {
	servers := m.upstreams()
	if len(servers) == 0 {
		return fmt.Errorf("%s still names CoreDNS, whoever writes it has not done so, and no other resolver of this machine is known: write it by hand", resolvConf)
	}
	info, err := os.Lstat(m.Path(resolvConf))
	if err != nil {
		return err
	}
	if before == nil {
		if before, err = os.ReadFile(m.Path(resolvConf)); err != nil {
			return err
		}
	}
	content := restored(before, servers)
	if info.Mode().IsRegular() {
		if err = m.replace(resolvConf, content, info.Mode().Perm(), ours); err == nil {
			return m.relabel(ctx, resolvConf)
		}
	}
	if !info.Mode().IsRegular() || mounted(err) {
		err = m.rewrite(resolvConf, content)
	}
	return m.explainRefusal(resolvConf, err)
}

// upstreams are the machine's own resolvers as CoreDNS forwards to them, or as they were known before. A file that cannot be read has
// none.
func (m Machine) upstreams() []netip.Addr {
	for _, file := range []string{UpstreamsFile, lastUpstreamsFile} { // the former went with its boot
		content, err := os.ReadFile(m.Path(file))
		if err != nil {
			continue
		}
		if servers := slices.DeleteFunc(resolvconf.Parse(content).Servers, netip.Addr.IsLoopback); len(servers) > 0 {
			return servers
		}
	}
	var servers []netip.Addr
	for _, server := range m.known {
		// A resolv.conf has no place for another port.
		if server.Port() == m.resolverPort() && !slices.Contains(servers, server.Addr()) {
			servers = append(servers, server.Addr())
		}
	}
	return servers
}
