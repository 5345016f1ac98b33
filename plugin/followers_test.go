package meshvm

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/meshvm/meshvm/plugin/mirror"
)

// following is a configuration whose syncer is not there: port 1 of loopback refuses.
func following(t *testing.T, namespace string) *Config {
	t.Helper()
	config := defaultConfig()
	config.Syncers, config.Insecure, config.Namespace = []string{"127.0.0.1:1"}, true, namespace
	config.SnapshotFile = filepath.Join(t.TempDir(), "registry.snapshot")
	return config
}

func claim(t *testing.T, p *followers, config *Config, by *run) *follower {
	t.Helper()
	f, err := p.claim(config, by)
	if err != nil {
		t.Fatalf("claim: %v", err)
	}
	return f
}

// load puts the tests' mesh into a follower's mirror.
func load(t *testing.T, f *follower) {
	t.Helper()
	change := mirror.Change{Generation: "g", View: "vm", ClusterDomain: "cluster.local", To: 1, Replace: true, Upserts: mesh()}
	if err := f.mirror.Apply(change); err != nil {
		t.Fatalf("Apply: %v", err)
	}
}

func TestFollowersAreShared(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	p, first, second := newFollowers(), new(run), new(run)
	config := following(t, "vm")

	one, two := claim(t, p, config, first), claim(t, p, config, first)
	if one != two {
		t.Error("Two blocks with equal settings have a follower each")
	}
	otherTTL := *config
	otherTTL.TTL = 99
	// A reload: the new run claims before the old one lets go.
	if again := claim(t, p, &otherTTL, second); again != one {
		t.Error("A reload with another TTL starts another follower")
	}
	p.release(config, first)
	p.release(config, first)
	p.release(config, first) // once more than claimed
	if got := len(p.all()); got != 1 {
		t.Fatalf("Followers after the old run let go: got %d, want 1", got)
	}
	p.release(&otherTTL, second)
	if got := len(p.all()); got != 0 {
		t.Errorf("Followers after all let go: got %d, want none", got)
	}
}

func TestFailedReload(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	p, survivor, failed := newFollowers(), new(run), new(run)
	config, other := following(t, "vm"), following(t, "other")
	kept := claim(t, p, config, survivor)
	load(t, kept)
	claim(t, p, other, survivor)
	claim(t, p, other, failed)
	changed := *config
	changed.Namespace = "changed"
	claim(t, p, &changed, failed) // takes the snapshot file over
	if got := len(p.all()); got != 3 {
		t.Fatalf("Followers while the reload lasts: got %d, want 3", got)
	}

	p.reclaim(config, survivor)
	p.reclaim(config, survivor) // as another block of the survivor does
	p.release(other, survivor)
	if all := p.all(); len(all) != 1 || all[0].follower != kept {
		t.Fatalf("Followers after the reload failed: got %v, want the survivor's alone", all)
	}
	if err := os.Remove(config.SnapshotFile); err != nil {
		t.Fatal(err)
	}
	p.release(config, survivor)
	if _, err := os.Stat(config.SnapshotFile); err != nil {
		t.Errorf("The survivor does not save any more: %v", err)
	}
}

func TestChangedSettingsHandTheRegistryOver(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	p, before, after := newFollowers(), new(run), new(run)
	config := following(t, "vm")
	old := claim(t, p, config, before)
	load(t, old)
	changed := *config
	changed.Namespace = "changed"
	successor := claim(t, p, &changed, after)
	if got, want := successor.mirror.State().Resources(), old.mirror.State().Resources(); got != want {
		t.Errorf("Resources handed over: got %d, want %d", got, want)
	}
	p.release(config, before)
	if !old.mirror.State().Loaded() {
		t.Error("The old follower's mirror does not answer until its listeners are closed")
	}
	p.release(&changed, after)
}

func TestSnapshotOutlivesTheProcess(t *testing.T) {
	p, config := newFollowers(), following(t, "vm")
	load(t, claim(t, p, config, new(run)))
	for _, held := range p.all() {
		for by := range held.claims {
			p.release(config, by)
		}
	}
	again, by := newFollowers(), new(run)
	f := claim(t, again, config, by)
	defer again.release(config, by)
	if !f.mirror.State().Loaded() || f.mirror.State().Host("reviews.prod.svc.cluster.local") == nil {
		t.Error("The registry is not loaded before the first query")
	}
}

func TestSnapshotOfTwoRegistries(t *testing.T) {
	p, by := newFollowers(), new(run)
	config := following(t, "vm")
	claim(t, p, config, by)
	defer p.release(config, by)
	other := *config
	other.Namespace = "other"
	_, err := p.claim(&other, by)
	if err == nil || !strings.Contains(err.Error(), config.SnapshotFile) {
		t.Errorf("Error: got %v, want one that names %s", err, config.SnapshotFile)
	}
}

func TestStreamFaultsAtStart(t *testing.T) {
	config := following(t, "vm")
	config.Insecure = false
	config.TLS.CA = filepath.Join(t.TempDir(), "missing.pem")
	p := newFollowers()
	if _, err := p.claim(config, new(run)); err == nil || !strings.Contains(err.Error(), "missing.pem") {
		t.Errorf("Error: got %v, want one that names the file", err)
	}
	if got := len(p.all()); got != 0 {
		t.Errorf("Followers: got %d, want none", got)
	}
}

// writeToken writes a JWT of ServiceAccount billing in namespace prod that nobody has signed.
func writeToken(t *testing.T, dir string, expires time.Time) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"sub":"system:serviceaccount:prod:billing","exp":%d}`, expires.Unix())
	file := filepath.Join(dir, "token")
	token := encode([]byte(`{"alg":"none"}`)) + "." + encode([]byte(claims)) + "." + encode([]byte(tokenSignature))
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// tokenSignature is what nobody may ever see of a token.
const tokenSignature = "0123456789 signature 0123456789"

func TestMirrorMetrics(t *testing.T) {
	p, by := newFollowers(), new(run)
	config := following(t, "vm")
	config.TokenFile = writeToken(t, t.TempDir(), time.Unix(4102444800, 0))
	f := claim(t, p, config, by)
	defer p.release(config, by)
	load(t, f)
	want := strings.NewReader(`
# HELP coredns_meshvm_resources Number of resources that the mirror holds.
# TYPE coredns_meshvm_resources gauge
coredns_meshvm_resources{namespace="vm",syncers="127.0.0.1:1"} 29
`)
	if err := testutil.CollectAndCompare(p, want, "coredns_meshvm_resources"); err != nil {
		t.Error(err)
	}
	// No syncer is there, and the token is known to end all the same.
	want = strings.NewReader(`
# HELP coredns_meshvm_credential_expiry_timestamp_seconds When the credential in the VM's files ends, by kind: certificate or token.
# TYPE coredns_meshvm_credential_expiry_timestamp_seconds gauge
coredns_meshvm_credential_expiry_timestamp_seconds{credential="token",namespace="vm",syncers="127.0.0.1:1"} 4.1024448e+09
`)
	if err := testutil.CollectAndCompare(p, want, "coredns_meshvm_credential_expiry_timestamp_seconds"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(p); err != nil || len(problems) > 0 {
		t.Errorf("Lint: %v, %v", problems, err)
	}
}
