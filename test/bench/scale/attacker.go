package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// attackerVariable, set in the environment, makes this program the strangers of one attack, which it reads
// from standard input.
const attackerVariable = "MESHVM_BENCH_SCALE_ATTACKER"

// attack is what strangers do.
type attack struct {
	Address string
	Kind    string
	// Rate is connections a second, for so many seconds.
	Rate, Seconds float64
	// Sources they come from, one after the other: the addresses after First, which is of this machine.
	Sources int
	First   net.IP
	// Certificate and Key, of an authority that the syncer does not know, in PEM form.
	Certificate, Key []byte
}

// attacked is what became of it.
type attacked struct {
	Error string
	// Began is how many connections were begun, Late of them more than 100 ms after they were due.
	Began, Late int64
	// Closed were closed by the syncer before the attack was over; Answered had a word of it, beyond TLS if they did their part of that.
	Closed, Answered int64
	// Failed could not be opened.
	Failed int64
	// CPU is the time that the strangers took.
	CPU time.Duration
}

// attackerKinds are kinds of strangers, by what they do once they are connected.
var attackerKinds = map[string]func(*attacker, net.Conn) error{
	// says nothing
	"silent": func(*attacker, net.Conn) error { return nil },
	// is none of our protocol
	"garbage": func(_ *attacker, conn net.Conn) error {
		_, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: syncer\r\nUser-Agent: stranger\r\n\r\n"))
		return err
	},
	// begins TLS, by a message that was recorded once, and leaves the syncer alone with it
	"hello": func(a *attacker, conn net.Conn) error {
		_, err := conn.Write(a.recorded)
		return err
	},
	// does its part of TLS without a certificate
	"no-certificate": func(a *attacker, conn net.Conn) error { return a.shakeHands(conn, nil, nil) },
	// has a certificate of an authority that the syncer does not know
	"untrusted": func(a *attacker, conn net.Conn) error { return a.shakeHands(conn, a.certificate, nil) },
	// watches without a token
	"no-token": func(a *attacker, conn net.Conn) error { return a.shakeHands(conn, nil, a.opening) },
	// speaks HTTP/2 and asks for nothing
	"no-stream": func(a *attacker, conn net.Conn) error { return a.shakeHands(conn, nil, a.preface) },
}

// attacker is many strangers.
type attacker struct {
	attack

	recorded, opening, preface []byte
	certificate                *tls.Certificate

	began, late, closed, answered, failed atomic.Int64
}

// runAttacker is the strangers' process.
func runAttacker(in io.Reader, out io.Writer) error {
	// What strangers take of the processors would be taken elsewhere.
	raw, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err == nil {
		err = syscall.Setpriority(syscall.PRIO_PROCESS, 0, min(20-raw+10, 19)) // Linux's call tells 20 less the niceness
	}
	if err != nil {
		return fmt.Errorf("lower the priority: %w", err)
	}
	a := &attacker{}
	if err := json.NewDecoder(in).Decode(&a.attack); err != nil {
		return fmt.Errorf("read attack: %w", err)
	}
	if err := a.prepare(); err != nil {
		return err
	}
	if err := raiseFileLimit(int(a.Rate*a.Seconds) / 2); err != nil {
		return err
	}
	a.run()
	said := attacked{
		Began: a.began.Load(), Late: a.late.Load(), Closed: a.closed.Load(), Answered: a.answered.Load(), Failed: a.failed.Load(),
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return err
	}
	said.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	return json.NewEncoder(out).Encode(said)
}

// prepare makes once what every stranger says.
func (a *attacker) prepare() error {
	if attackerKinds[a.Kind] == nil {
		return fmt.Errorf("unknown kind of strangers %q", a.Kind)
	}
	if len(a.Certificate) > 0 {
		pair, err := tls.X509KeyPair(a.Certificate, a.Key)
		if err != nil {
			return err
		}
		a.certificate = &pair
	}
	recorder := &recorder{}
	// It ends in an error, as nobody answers.
	if err := tls.Client(recorder, a.config()).Handshake(); err == nil || len(recorder.said) == 0 {
		return fmt.Errorf("record the beginning of TLS: %w", err)
	}
	a.recorded = recorder.said

	t := &transport{}
	t.frames = http2.NewFramer(&t.out, nil)
	t.out.WriteString(http2.ClientPreface)
	if err := t.frames.WriteSettings(); err != nil {
		return err
	}
	a.preface = append(a.preface, t.out.Bytes()...)
	hello, err := proto.Marshal(&registryv1.WatchRequest{Request: &registryv1.WatchRequest_Hello{Hello: helloOf(holding{}, "stranger", "")}})
	if err != nil {
		return err
	}
	err = errors.Join(
		t.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: streamID, BlockFragment: requestHeaders, EndHeaders: true}),
		t.frames.WriteData(streamID, false, append([]byte{0, 0, 0, 0, byte(len(hello))}, hello...)),
	)
	a.opening = append(a.opening, t.out.Bytes()...)
	return err
}

func (a *attacker) config() *tls.Config {
	// Strangers do not care whom they talk to.
	return &tls.Config{MinVersion: tls.VersionTLS13, ServerName: serverName, NextProtos: []string{"h2"}, InsecureSkipVerify: true}
}

// shakeHands does TLS and then says something.
func (a *attacker) shakeHands(conn net.Conn, certificate *tls.Certificate, then []byte) error {
	config := a.config()
	if certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	secured := tls.Client(conn, config)
	if err := secured.Handshake(); err != nil {
		return err
	}
	if then == nil {
		return nil
	}
	_, err := secured.Write(then)
	return err
}

// run begins connections by the clock and ends them all when the time is over.
func (a *attacker) run() {
	ctx, end := context.WithTimeout(context.Background(), time.Duration(a.Seconds*float64(time.Second)))
	defer end()
	var strangers sync.WaitGroup
	defer strangers.Wait()
	began := time.Now()
	for i := range int(a.Rate * a.Seconds) {
		due := began.Add(time.Duration(float64(i) / a.Rate * float64(time.Second)))
		if wait := time.Until(due); wait > time.Millisecond {
			time.Sleep(wait)
		} else if wait < -100*time.Millisecond {
			a.late.Add(1)
		}
		if ctx.Err() != nil {
			return
		}
		a.began.Add(1)
		strangers.Go(func() { a.stranger(ctx, i%a.Sources) })
	}
	<-ctx.Done()
}

// stranger is one connection.
func (a *attacker) stranger(ctx context.Context, source int) {
	local := append(net.IP(nil), a.First.To4()...)
	local[2] += byte(source / 250)
	local[3] += byte(source % 250)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: local}, KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, "tcp", a.Address)
	if err != nil {
		if ctx.Err() == nil {
			a.failed.Add(1)
		}
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	heard := false
	if attackerKinds[a.Kind](a, conn) == nil {
		n, _ := io.Copy(io.Discard, conn) // It ends in an error when the syncer does not close it in good order.
		heard = n > 0
	}
	if heard {
		a.answered.Add(1)
	}
	if ctx.Err() == nil {
		a.closed.Add(1)
	}
}

// recorder is a connection that notes what is said and never answers.
type recorder struct {
	net.Conn
	said []byte
}

// Write implements net.Conn.
func (r *recorder) Write(p []byte) (int, error) {
	r.said = append(r.said, p...)
	return len(p), nil
}

// Read implements net.Conn.
func (*recorder) Read([]byte) (int, error) { return 0, io.EOF }

// Close implements net.Conn.
func (*recorder) Close() error { return nil }

// launch has strangers do something to a syncer, in a process of their own. What it returns waits for them.
func launch(ctx context.Context, what attack) (await func() (attacked, error), err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	order, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), attackerVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start strangers: %w", err)
	}
	if _, err := in.Write(append(order, '\n')); err != nil {
		return nil, errors.Join(err, in.Close(), cmd.Wait())
	}
	return func() (attacked, error) {
		var said attacked
		err := json.NewDecoder(bufio.NewReader(out)).Decode(&said)
		return said, errors.Join(err, in.Close(), cmd.Wait())
	}, nil
}
