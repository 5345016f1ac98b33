package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/meshvm/meshvm/deploy/vm/bootstrap"
)

// made is what was written.
type made struct {
	bundle bootstrap.Bundle
	at     time.Time
	may    string // whether the VM may watch
}

// make does everything. What can fail without a trace comes first: nothing is created, and no token issued, for a
// bundle that cannot be written.
func (b *boot) make(ctx context.Context, stderr io.Writer) (made, error) {
	cluster, err := b.cluster.connect()
	if err != nil {
		return made{}, err
	}
	defer cluster.Close()
	if err := b.findSyncer(ctx, cluster); err != nil {
		return made{}, err
	}
	m := made{at: time.Now()}
	if m.bundle.Authorities, err = b.authorities(ctx, cluster, m.at); err != nil {
		return made{}, err
	}
	if m.bundle.Corefile, err = b.machine.Corefile(); err != nil {
		return made{}, err
	}
	if !b.machine.IstioCertificates {
		m.bundle.Token = &bootstrap.Token{} // until there is one
	}
	if err := m.bundle.Check(b.out, b.force); err != nil {
		return made{}, err
	}
	if err := b.prove(ctx, cluster, &m, stderr); err != nil {
		return made{}, err
	}
	if m.may, err = b.permit(ctx, cluster, stderr); err != nil {
		return made{}, err
	}
	return m, m.bundle.Write(b.out, b.force)
}

func (b *boot) findSyncer(ctx context.Context, cluster *bootstrap.Cluster) error {
	if len(b.machine.Syncers) > 0 {
		return nil
	}
	var err error
	if b.machine.Syncers, err = cluster.FindSyncer(ctx, b.service); err != nil {
		return err
	}
	if !b.givenServerName {
		b.machine.ServerName = bootstrap.ServiceName(b.service)
	}
	return nil
}

func (b *boot) authorities(ctx context.Context, cluster *bootstrap.Cluster, now time.Time) (bootstrap.Authorities, error) {
	switch {
	case b.machine.IstioAuthority:
		return nil, nil
	case b.caFile != "":
		return bootstrap.ReadAuthorities(b.caFile, now)
	case b.caSecret != "":
		return cluster.AuthoritiesInSecret(ctx, b.named(b.caSecret), now)
	}
	return cluster.AuthoritiesInConfigMap(ctx, b.named(b.caConfigMap), now)
}

// prove gets what proves who the VM is.
func (b *boot) prove(ctx context.Context, cluster *bootstrap.Cluster, m *made, stderr io.Writer) error {
	if b.createAccount {
		created, err := cluster.CreateAccount(ctx, b.token.account)
		if err != nil {
			return err
		}
		if created {
			fmt.Fprintf(stderr, "meshvmctl bootstrap: created ServiceAccount %s\n", b.token.account)
		}
	}
	if b.machine.IstioCertificates {
		return cluster.CheckAccount(ctx, b.token.account)
	}
	token, err := cluster.RequestToken(ctx, b.token.account, b.token.audience, b.token.duration)
	if err != nil {
		return err
	}
	m.bundle.Token = &token
	b.token.warnOfLife(stderr, "bootstrap", token, time.Now())
	return nil
}

// permit lets the VM watch where that is asked for, and otherwise finds out whether it may. That it may not, or that
// nobody can tell, is a warning: the syncer may let it in by other means.
func (b *boot) permit(ctx context.Context, cluster *bootstrap.Cluster, stderr io.Writer) (string, error) {
	account := b.token.account
	ask := cluster.MayWatch
	if b.grant {
		granted, err := cluster.Grant(ctx, account)
		if err != nil {
			return "", err
		}
		if granted {
			fmt.Fprintf(stderr, "meshvmctl bootstrap: granted ServiceAccount %s ClusterRole %s in namespace %s\n", account, bootstrap.WatcherRole, account.Namespace)
		}
		ask = cluster.AwaitGrant
	}
	switch may, err := ask(ctx, account); {
	case bootstrap.IsUnreachable(err):
		return "", err
	case err != nil:
		fmt.Fprintf(stderr, "meshvmctl bootstrap: warning: %v\nIf it may not, a syncer with --authorization rbac refuses this VM until you run:\n  %s\n", err, bootstrap.GrantCommand(account))
		return "not known to watch", nil
	case may:
		return "may watch", nil
	case b.grant:
		fmt.Fprintf(stderr, "meshvmctl bootstrap: warning: the grant has no effect: is ClusterRole %s there?\n  kubectl get clusterrole %s\n", bootstrap.WatcherRole, bootstrap.WatcherRole)
	default:
		fmt.Fprintf(stderr, "meshvmctl bootstrap: warning: ServiceAccount %s may not watch: a syncer with --authorization rbac refuses this VM until you run (or give --grant):\n  %s\n", account, bootstrap.GrantCommand(account))
	}
	return "may not watch yet", nil
}

// print says what was written, and what to do with it.
func (b *boot) print(w io.Writer, m made) error {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "wrote\t%s\n", filepath.Join(b.out, "{"+strings.Join(m.bundle.Names(), ",")+"}"))
	fmt.Fprintf(table, "account\t%s, %s\n", b.token.account, m.may)
	fmt.Fprintf(table, "syncer\t%s", strings.Join(b.machine.Syncers, " "))
	if b.machine.ServerName != "" {
		fmt.Fprintf(table, ", whose certificate must name %s", b.machine.ServerName)
	}
	fmt.Fprintln(table)
	if token := m.bundle.Token; token != nil {
		fmt.Fprintf(table, "token\tgood until %s, for %s\n", until(token.Expires, m.at), b.token.audience)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	folder := filepath.Base(filepath.Clean(b.out))
	if b.machine.Directory == bootstrap.InstallDirectory {
		fmt.Fprintf(&text, "\nNext: copy the folder to the VM, install the package there, and as root:\n  meshvmctl join %s\nWithout the package, as root:\n", folder)
	} else {
		fmt.Fprint(&text, "\nNext: copy the folder to the VM and there, as root:\n")
	}
	fmt.Fprintf(&text, "  mkdir -p %[1]s && cp -a %[2]s/. %[1]s && chown -R root: %[1]s\nThen follow the head of %[1]s/Corefile.\n", b.machine.Directory, folder)
	if file := b.machine.TokenFile(); file != "" {
		fmt.Fprintf(&text, "Before the token ends, renew it and put it in place of %s:\n  meshvmctl token --namespace %s --service-account %s --out FILE\n", file, b.token.account.Namespace, b.token.account.Name)
	}
	_, err := io.WriteString(w, text.String())
	return err
}
