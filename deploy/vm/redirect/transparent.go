package redirect

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// applyTransparent has nftables send questions to port 53, over UDP and TCP, of every program of this machine but those exempt to
// CoreDNS. Rules of an earlier call are replaced in one transaction, so that no packet meets half of them. IPv4 and IPv6 are each
// redirected where CoreDNS listens in them. Packets that the machine forwards, as those of containers with a network of their own,
// are left alone. An *Impossible says why this machine cannot have the rules; nothing was changed then.
func applyTransparent(ctx context.Context, m Machine, p Plan) error {
	rules, err := transparentRules(m, p)
	if err != nil {
		return err
	}
	there, err := m.transparentTables(ctx)
	if err != nil {
		return err
	}
	var script strings.Builder
	script.WriteString(dropTables(there))
	for _, r := range rules {
		script.WriteString(r.script())
	}
	if _, err := m.nft(ctx, script.String()); err != nil {
		return fmt.Errorf("load the rules of nftables: %w", err)
	}
	return nil
}

// revertTransparent removes the rules, if there are any. Connections and questions under way lose their translation with the next
// packet that nothing tracks; programs ask again.
func revertTransparent(ctx context.Context, m Machine) error {
	there, err := m.transparentTables(ctx)
	if err != nil {
		// Most machines that have no nft, or a kernel without nftables, have no rules of ours. Rules outlive the program that loaded them,
		// and go with their boot.
		s, stateErr := LoadState(m)
		if stateErr != nil || s == nil || !s.hasRules() {
			return stateErr
		}
		if boot, bootErr := m.boot(); bootErr == nil && boot != s.Boot {
			return nil
		}
		return fmt.Errorf("remove the rules of nftables: %w", err)
	}
	if len(there) == 0 {
		return nil
	}
	if _, err := m.nft(ctx, dropTables(there)); err != nil {
		return fmt.Errorf("remove the rules of nftables: %w", err)
	}
	return nil
}

// HoldsTransparent says what of the rules that a Plan wants is not in force, a sentence each, as after a firewall was loaded that
// flushes all others' rules.
func HoldsTransparent(ctx context.Context, m Machine, p Plan) ([]string, error) {
	rules, err := transparentRules(m, p)
	if err != nil {
		return nil, err
	}
	there, err := m.transparentTables(ctx)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, r := range rules {
		if !slices.Contains(there, r.family) {
			missing = append(missing, "nftables has no table "+r.family+" "+transparentTable)
			continue
		}
		listed, err := m.nft(ctx, "list table "+r.family+" "+transparentTable)
		if err != nil {
			return nil, fmt.Errorf("read the rules of nftables: %w", err)
		}
		if strings.Count(listed, r.comment()) != r.count() {
			missing = append(missing, "the rules in nftables' table "+r.family+" "+transparentTable+" are others than those that were applied")
		}
		there = slices.DeleteFunc(there, func(family string) bool { return family == r.family })
	}
	for _, family := range there {
		missing = append(missing, "nftables has a table "+family+" "+transparentTable+" of another plan")
	}
	return missing, nil
}

// transparentTables are the families in which there is a table of ours.
func (m Machine) transparentTables(ctx context.Context) ([]string, error) {
	listed, err := m.nft(ctx, "list tables")
	if err != nil {
		return nil, fmt.Errorf("list the tables of nftables: %w", err)
	}
	var families []string
	for line := range strings.Lines(listed) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[2] == transparentTable && (fields[1] == "ip" || fields[1] == "ip6") {
			families = append(families, fields[1])
		}
	}
	return families, nil
}

func dropTables(families []string) string {
	var script strings.Builder
	for _, family := range families {
		fmt.Fprintf(&script, "delete table %s %s\n", family, transparentTable)
	}
	return script.String()
}

// nft runs a script of nftables, which is one transaction.
func (m Machine) nft(ctx context.Context, script string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	output, err := m.run(ctx, "nft", script)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", &Impossible{"there is no nft on this machine, which --transparent needs: install the package nftables, or apply without --transparent"}
	case err != nil:
		return "", fmt.Errorf("nft: %w: %.500s", err, strings.Join(strings.Fields(string(output)), " "))
	}
	return string(output), nil
}
