package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshvm/meshvm/deploy/vm/bootstrap"
)

// boot is a VM to be made, and what may be done for it.
type boot struct {
	cluster clusterFlags
	token   tokenFlags
	machine bootstrap.Machine
	service types.NamespacedName

	caFile, caConfigMap, caSecret string
	givenServerName               bool
	out                           string
	force                         bool
	createAccount, grant          bool
}

const bootstrapDuration = "token-duration"

func (b *boot) declare(flags *pflag.FlagSet) {
	flags.SortFlags = false
	b.token.declare(flags, bootstrapDuration)
	flags.StringVar(&b.out, "out", "", "`DIR` to write the files into; made where it is not there")
	flags.BoolVar(&b.force, "force", false, "replace another bundle in DIR, or put one beside other files")
	flags.StringSliceVar(&b.machine.Syncers, "syncer", nil, "the syncer's `ADDRESS`es for VMs, HOST:PORT (default those of its Service's load balancer)")
	flags.StringVar(&b.service.Namespace, "syncer-namespace", "meshvm", "`NAMESPACE` of the syncer's Service and of its authority")
	flags.StringVar(&b.service.Name, "syncer-service", "meshvm-syncer", "`NAME` of the syncer's Service")
	flags.StringVar(&b.machine.ServerName, "tls-server-name", "", "`NAME` that the syncer's certificate must have, or its SPIFFE ID where the mesh gave it that (default with --syncer: the host of its address; else SERVICE.NAMESPACE.svc)")
	flags.StringVar(&b.caFile, "ca-file", "", "PEM `FILE` of the authorities that the syncer's certificate comes from")
	flags.StringVar(&b.caConfigMap, "ca-configmap", "", "`[NAMESPACE/]NAME` of a ConfigMap that has them under ca.crt (default \"meshvm-ca\")")
	flags.StringVar(&b.caSecret, "ca-secret", "", "`[NAMESPACE/]NAME` of a Secret that has them under ca.crt")
	flags.StringVar(&b.machine.ClusterDomain, "cluster-domain", "cluster.local", "DNS `ZONE` of the cluster's Services")
	flags.StringVar(&b.machine.Node, "node", "", "the VM's `NAME`, where its labels decide which Istio Sidecar it has (default its host name)")
	flags.StringSliceVar(&b.machine.Upstreams, "upstream", nil, "resolvers, `IP` or IP:PORT, of names that are not the mesh's (default the VM's own, which meshvmctl redirect finds out there)")
	flags.StringVar(&b.machine.Directory, "install-dir", bootstrap.InstallDirectory, "`DIR` on the VM where the files will be")
	flags.BoolVar(&b.machine.IstioCertificates, "istio-certs", false, "no token: the VM has an Istio agent, and its certificate in /etc/certs says who it is")
	flags.BoolVar(&b.createAccount, "create-service-account", false, "create the ServiceAccount where it is not there")
	flags.BoolVar(&b.grant, "grant", false, "let the ServiceAccount watch: bind ClusterRole "+bootstrap.WatcherRole+" to it in its namespace")
	b.cluster.declare(flags)
}

const bootstrapUsage = `meshvmctl bootstrap writes what a VM needs to join: Corefile, authority and token.

Usage:
  meshvmctl bootstrap --namespace NS --service-account SA --out DIR [flags]

DIR is then copied to the VM, where meshvmctl join DIR does the rest. To write it again replaces the
token; to replace anything else takes --force. Files that are not of a bundle are never touched.

Exit codes: 0 written, 1 not written, 2 wrong usage, 3 the API server cannot be reached.

Flags:
`

func runBootstrap(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var b boot
	flags := pflag.NewFlagSet("meshvmctl bootstrap", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	b.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, bootstrapUsage+flags.FlagUsagesWrapped(100))
		return exitDone
	}
	if err == nil {
		b.givenServerName = flags.Changed("tls-server-name")
		err = b.check(flags.Args())
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl bootstrap: %v (see meshvmctl bootstrap --help)\n", err)
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(ctx, b.cluster.timeout)
	defer cancel()
	made, err := b.make(ctx, stderr)
	if err != nil {
		return fail(stderr, "bootstrap", err)
	}
	if err := b.print(stdout, made); err != nil {
		return fail(stderr, "bootstrap", fmt.Errorf("write the answer: %w", err))
	}
	return exitDone
}

// check reports what is wrong with the command line, by flag.
func (b *boot) check(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q: there are only flags", args[0])
	}
	if err := b.token.check(bootstrapDuration); err != nil {
		return err
	}
	b.machine.Account = b.token.account
	given := 0
	for _, source := range []string{b.caFile, b.caConfigMap, b.caSecret} {
		if source != "" {
			given++
		}
	}
	switch {
	case b.out == "":
		return errors.New("want --out DIR")
	case given > 1:
		return errors.New("want one of --ca-file, --ca-configmap and --ca-secret")
	case b.service.Namespace == "" || b.service.Name == "":
		return errors.New("--syncer-namespace and --syncer-service must not be empty")
	}
	b.machine.IstioAuthority = b.machine.IstioCertificates && given == 0
	if err := b.cluster.check(); err != nil {
		return err
	}
	return b.machine.Check()
}

// named is [NAMESPACE/]NAME, in the syncer's namespace where it says none.
func (b *boot) named(text string) types.NamespacedName {
	if namespace, name, ok := strings.Cut(text, "/"); ok {
		return types.NamespacedName{Namespace: namespace, Name: name}
	}
	return types.NamespacedName{Namespace: b.service.Namespace, Name: cmp.Or(text, "meshvm-ca")}
}
