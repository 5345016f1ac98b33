package main

// The plugins a VM needs. Each registers itself; the list below orders them. Not
// core/plugin, which links every plugin of CoreDNS, and the Kubernetes client
// with them.
import (
	_ "github.com/coredns/coredns/plugin/acl"
	_ "github.com/coredns/coredns/plugin/any"
	_ "github.com/coredns/coredns/plugin/autopath"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/bufsize"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/cancel"
	_ "github.com/coredns/coredns/plugin/debug"
	_ "github.com/coredns/coredns/plugin/dns64"
	_ "github.com/coredns/coredns/plugin/dnstap"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/header"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/local"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/metadata"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/minimal"
	_ "github.com/coredns/coredns/plugin/multisocket"
	_ "github.com/coredns/coredns/plugin/nsid"
	_ "github.com/coredns/coredns/plugin/pprof"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/rewrite"
	_ "github.com/coredns/coredns/plugin/root"
	_ "github.com/coredns/coredns/plugin/template"
	_ "github.com/coredns/coredns/plugin/tls"
	_ "github.com/coredns/coredns/plugin/transfer"
	_ "github.com/coredns/coredns/plugin/view"

	_ "github.com/meshvm/meshvm/plugin"
)

// directives are the plugins of this build in the order a query meets them: the
// first wraps the answers of all below. It is upstream's order save where meshvm
// needs otherwise. What changes its answers (rewrite, loadbalance, minimal,
// header, autopath) and what decides who may ask (acl, view) stands above it. The
// cache stands below it: meshvm answers faster than the cache, and a cache in
// front would go on serving what the registry has removed.
//
// The same order is that in which the lines of a Corefile take effect. So root
// comes too late for tls, whose files are best named absolutely.
var directives = []string{
	"metadata",
	"cancel",
	"tls",
	"multisocket",
	"reload",
	"bufsize",
	"bind",
	"root",
	"debug",
	"ready",
	"health",
	"pprof",
	"prometheus", // package metrics
	"errors",
	"log",
	"dnstap",
	"local",
	"any",
	"dns64",
	"loadbalance",
	"minimal",
	"header",
	"nsid",
	"rewrite",
	"acl",
	"autopath",
	"view",
	"transfer",
	"meshvm",
	"cache",
	"template",
	"hosts",
	"loop",
	"forward",
}
