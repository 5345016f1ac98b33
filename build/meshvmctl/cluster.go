package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/bootstrap"
)

// clusterFlags say which API server is spoken to, and as whom.
type clusterFlags struct {
	kubeconfig, context string
	timeout             time.Duration
}

func (c *clusterFlags) declare(flags *pflag.FlagSet) {
	flags.StringVar(&c.kubeconfig, "kubeconfig", "", "`FILE` that says which cluster, and who you are (default that of KUBECONFIG, or ~/.kube/config, or in a pod its own cluster)")
	flags.StringVar(&c.context, "context", "", "`NAME` of the kubeconfig's context (default its current one)")
	flags.DurationVar(&c.timeout, "timeout", 30*time.Second, "how long to wait for the API server")
}

func (c *clusterFlags) check() error {
	if c.timeout <= 0 {
		return fmt.Errorf("--timeout %s: want more than nothing", c.timeout)
	}
	return nil
}

func (c *clusterFlags) connect() (*bootstrap.Cluster, error) {
	cluster, err := bootstrap.Connect(c.kubeconfig, c.context, "meshvmctl/"+version)
	if err != nil {
		return nil, usageError{err}
	}
	return cluster, nil
}

// tokenFlags say whose token is requested, for whom and for how long.
type tokenFlags struct {
	account  bootstrap.Account
	audience string
	duration time.Duration
}

func (t *tokenFlags) declare(flags *pflag.FlagSet, durationFlag string) {
	flags.StringVar(&t.account.Namespace, "namespace", "", "`NAMESPACE` of the VM, which says what names it is shown")
	flags.StringVar(&t.account.Name, "service-account", "", "`NAME` of the VM's ServiceAccount in that namespace")
	flags.DurationVar(&t.duration, durationFlag, 24*time.Hour, "how long the token is to be good; the API server has the last word")
	flags.StringVar(&t.audience, "audience", "meshvm", "whom the token is for: the `NAME` that the syncer takes")
}

func (t *tokenFlags) check(durationFlag string) error {
	switch {
	case t.account.Namespace == "":
		return errors.New("want --namespace")
	case t.account.Name == "":
		return errors.New("want --service-account")
	case t.audience == "":
		return errors.New("--audience is empty: want the name that the syncer takes, such as meshvm")
	case t.duration < bootstrap.LeastDuration || t.duration > bootstrap.MostDuration:
		return fmt.Errorf("--%s %s: want %s or more, and no more than %s", durationFlag, t.duration, bootstrap.LeastDuration, bootstrap.MostDuration)
	}
	return t.account.Check()
}

// tolerance is what the clocks of this machine and the API server may differ by before it is said.
const tolerance = time.Minute

// warnOfLife says when the API server has not given the life that was asked for.
func (t *tokenFlags) warnOfLife(w io.Writer, command string, token bootstrap.Token, now time.Time) {
	if life := token.Expires.Sub(now); (life - t.duration).Abs() > tolerance {
		fmt.Fprintf(w, "meshvmctl %s: the API server has given the token %s, not %s\n", command, span(life), t.duration)
	}
}

// until is a time, and how far it is, people and programs read it.
func until(moment, now time.Time) string {
	return fmt.Sprintf("%s (%s)", moment.UTC().Format(time.RFC3339), span(moment.Sub(now)))
}

// span is a time span as it was meant: a token that was asked for an hour ends a little less than that from now.
func span(d time.Duration) time.Duration {
	if d.Abs() >= bootstrap.LeastDuration-tolerance {
		return d.Round(time.Minute)
	}
	return d.Round(time.Second)
}

// fail says what went wrong, and returns the exit code for it.
func fail(stderr io.Writer, command string, err error) int {
	fmt.Fprintf(stderr, "meshvmctl %s: %v\n", command, err)
	var usage usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case bootstrap.IsUnreachable(err):
		return exitUnreachable
	}
	return exitRefused
}
