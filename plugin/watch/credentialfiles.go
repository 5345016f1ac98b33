package watch

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"
)

// credentialFiles are the files that a Client proves itself with, and who it takes for a syncer. They are read for every
// connection, and looked at all the time: what is in them may end, and may be renewed.
type credentialFiles struct {
	tokenFile string
	plaintext bool
	limits    limits
	log       *slog.Logger
	// now is the time of day, and jitter picks a duration from zero up to and including its argument.
	now    func() time.Time
	jitter func(time.Duration) time.Duration
	// changed has one in it when the files hold something else than the last connection took.
	changed chan struct{}

	// reading is held while the files are read, mu never.
	reading sync.Mutex
	// tls is nil where the connection is plaintext.
	tls *tlsSource

	mu sync.Mutex
	// present is what the files hold, used what the last connection took.
	present, used material
	// interrupt ends the stream that is in step. Nil: there is none.
	interrupt context.CancelCauseFunc
	// renewAt is when that is due. Zero: there is no need.
	renewAt time.Time
	// noticed is what was logged of how long credentials are good.
	noticed map[CredentialKind]notice
}

// material is what the files held at one time.
type material struct {
	tls   *tls.Config
	token *token
	// fault is why there is no token where there should be one.
	fault       error
	credentials []Credential
	// digest tells materials apart.
	digest [sha256.Size]byte
}

// newCredentialFiles reads the files for the first time. An error is one of the TLS files: a token may come later.
func newCredentialFiles(config Config, limits limits, log *slog.Logger) (*credentialFiles, error) {
	f := &credentialFiles{
		tokenFile: config.TokenFile,
		plaintext: config.Insecure,
		limits:    limits,
		log:       log,
		now:       time.Now,
		jitter:    func(most time.Duration) time.Duration { return rand.N(most + 1) },
		changed:   make(chan struct{}, 1),
		noticed:   make(map[CredentialKind]notice),
	}
	if !config.Insecure {
		source, err := newTLSSource(config.TLS, config.ServerName, log)
		if err != nil {
			return nil, err
		}
		f.tls = source
	}
	f.present = f.read()
	return f, nil
}

// read is what the files hold now.
func (f *credentialFiles) read() material {
	f.reading.Lock()
	defer f.reading.Unlock()
	var m material
	digest := sha256.New()
	if f.tls != nil {
		m.tls = f.tls.config()
		digest.Write(f.tls.read[:])
		if f.tls.files.CertFile != "" {
			shown := f.tls.credential
			shown.Fault = f.tls.fault
			m.credentials = append(m.credentials, shown)
		}
	}
	if f.tokenFile != "" {
		read, err := readToken(f.tokenFile, f.plaintext)
		if err != nil {
			m.fault = err
			m.credentials = append(m.credentials, Credential{Kind: CredentialToken, File: f.tokenFile, Fault: err.Error()})
		} else {
			m.token = &read
			m.credentials = append(m.credentials, tokenCredential(f.tokenFile, read.value))
			sum := sha256.Sum256([]byte(read.value))
			digest.Write(sum[:])
		}
	}
	digest.Sum(m.digest[:0])
	return m
}

// take is what a connection is made with now. It reports whether that is something else than the connection
// before took.
func (f *credentialFiles) take() (taken material, fresh bool) {
	taken = f.read()
	f.mu.Lock()
	defer f.mu.Unlock()
	fresh = taken.digest != f.used.digest
	f.present, f.used = taken, taken
	select {
	case <-f.changed:
	default:
	}
	return taken, fresh
}

// reread reads the files, and reports whether they hold something else than the last connection took.
func (f *credentialFiles) reread() bool {
	present := f.read()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.present = present
	return present.digest != f.used.digest
}

// credentials are those that the files hold, for people.
func (f *credentialFiles) credentials() []Credential {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.present.credentials)
}

// stamps tell without reading whether files have changed. Nil: there is no such file.
func (f *credentialFiles) stamps() []os.FileInfo {
	paths := []string{f.tokenFile}
	if f.tls != nil {
		paths = append(paths, f.tls.files.CertFile, f.tls.files.KeyFile, f.tls.files.CAFile)
	}
	stamps := make([]os.FileInfo, 0, len(paths))
	for _, path := range paths {
		if path == "" {
			continue
		}
		stamp, err := os.Stat(path)
		if err != nil {
			stamp = nil // as good as gone, and reading it says why
		}
		stamps = append(stamps, stamp)
	}
	return stamps
}

func sameStamp(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && os.SameFile(a, b)
}

// watch looks at the files until the context ends. The stamps are those of before the first connection.
func (f *credentialFiles) watch(ctx context.Context, seen []os.FileInfo) {
	if len(seen) == 0 {
		return
	}
	ticker := time.NewTicker(f.limits.poll)
	defer ticker.Stop()
	settling := false
	for {
		f.attend(f.now())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch now := f.stamps(); {
		case !slices.EqualFunc(now, seen, sameStamp):
			// Perhaps they are being written, and a certificate's key comes next.
			seen, settling = now, true
		case settling:
			settling = false
			if f.reread() {
				select {
				case f.changed <- struct{}{}:
				default:
				}
			}
		}
	}
}
