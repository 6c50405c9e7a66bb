package main

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"vrouter/mgmt/netconf/frame"
)

// fake listens on a unix socket and lets f speak to each client.
func fake(t *testing.T, f func(c net.Conn)) (socket string) {
	t.Helper()
	socket = t.TempDir() + "/s"
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); f(c) }()
		}
	}()
	return socket
}

func helloOf(caps ...string) string {
	s := `<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><capabilities>`
	for _, c := range caps {
		s += "<capability>" + c + "</capability>"
	}
	return s + `</capabilities><session-id>7</session-id></hello>]]>]]>`
}

// Servers that do not behave are an error of the way, never a hang.
func TestOddServers(t *testing.T) {
	for _, c := range []struct {
		name string
		f    func(c net.Conn)
		want string
	}{
		{"closes", func(net.Conn) {}, "closed the connection"},
		{"is silent", func(c net.Conn) { io.Copy(io.Discard, c) }, "was silent"},
		{"is no NETCONF server", func(c net.Conn) { io.WriteString(c, "220 mail ESMTP]]>]]>"); io.Copy(io.Discard, c) }, "no NETCONF hello"},
		{"speaks another version", func(c net.Conn) { io.WriteString(c, helloOf("urn:x")); io.Copy(io.Discard, c) }, "no version of NETCONF"},
		{"dies after its hello", func(c net.Conn) { io.WriteString(c, helloOf(base10)) }, "closed the connection"},
		{"is silent after its hello", func(c net.Conn) { io.WriteString(c, helloOf(base11)); io.Copy(io.Discard, c) }, "was silent"},
		{"answers nonsense", func(c net.Conn) { answer(c, base10, "<rpc-reply><data><nothing/></data>") }, "XML"},
		{"answers without data", func(c net.Conn) { answer(c, base10, "<rpc-reply><ok/></rpc-reply>") }, "it holds no data"},
		{"has other modules", func(c net.Conn) { answer(c, base11, `<rpc-reply><data><x xmlns="urn:x"/></data></rpc-reply>`) }, "another version of vRouter"},
		{"breaks the framing", func(c net.Conn) {
			io.WriteString(c, helloOf(base11))
			frame.NewReader(c, 1<<20).Next(nil)
			io.WriteString(c, "\n#x\n")
			io.Copy(io.Discard, c)
		}, "chunked framing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			timeout := "1m"
			if strings.Contains(c.want, "silent") {
				timeout = "300ms"
			}
			wants(t, run(nil, strings.NewReader(""), "--socket", fake(t, c.f), "--timeout", timeout, "show", "drops"), 3, c.want)
		})
	}
}

// answer says hello and answers each rpc by the same text.
func answer(c net.Conn, version, text string) {
	r, w := frame.NewReader(c, 1<<20), frame.NewWriter(c)
	io.WriteString(c, helloOf(version))
	if _, err := r.Next(nil); err != nil {
		return
	}
	if version == base11 {
		r.Chunked()
		w.Chunked()
	}
	for {
		if _, err := r.Next(nil); err != nil {
			return
		}
		io.WriteString(w, text)
		if w.End() != nil {
			return
		}
	}
}

// A reply that takes longer than the timeout is read to its end while it moves.
func TestSlowReply(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const timeout = 3 * time.Second
	socket := fake(t, func(c net.Conn) {
		r := frame.NewReader(c, 1<<20)
		io.WriteString(c, helloOf(base10))
		for range 2 {
			if _, err := r.Next(nil); err != nil {
				return
			}
		}
		parts := []string{"<rpc-reply>", "<data>", "<!--", "1", "2", "3", "4", "5", "6", "-->", "</data>", "</rpc-reply>", "]]>]]>"}
		for _, part := range parts {
			time.Sleep(timeout / time.Duration(len(parts)-2))
			io.WriteString(c, part)
		}
		io.Copy(io.Discard, c)
	})
	wants(t, run(nil, strings.NewReader(""), "--socket", socket, "--timeout", timeout.String(), "show", "drops"), 0, "no packet was dropped")
}

// Warnings are shown and no reason to fail.
func TestWarning(t *testing.T) {
	socket := fake(t, func(c net.Conn) {
		answer(c, base11, `<rpc-reply><rpc-error><error-type>application</error-type><error-tag>operation-failed</error-tag>`+
			`<error-severity>warning</error-severity><error-message>the disk is nearly full</error-message></rpc-error><ok/></rpc-reply>`)
	})
	r := run(nil, strings.NewReader(""), "--socket", socket, "discard")
	if r.code != 0 || r.err != "warning: operation-failed: the disk is nearly full\nwarning: operation-failed: the disk is nearly full\n" { // of close-session too
		t.Errorf("exit code %d, %q", r.code, r.err)
	}
}

// An answer of several errors is told whole; what would steer the terminal is
// not passed on.
func TestErrorsForPeople(t *testing.T) {
	socket := fake(t, func(c net.Conn) {
		answer(c, base11, `<rpc-reply xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">`+
			`<rpc-error><error-type>application</error-type><error-tag>invalid-value</error-tag><error-severity>error</error-severity>`+
			`<error-path xmlns:if="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:ip="urn:ietf:params:xml:ns:yang:ietf-ip">`+
			`/if:interfaces/if:interface[if:name='a:b/c']/ip:ipv4/ip:address[ip:ip="10.0.0.1"]</error-path></rpc-error>`+
			"<rpc-error><error-type>protocol</error-type><error-tag>lock-denied</error-tag><error-severity>error</error-severity>"+
			"<error-message>\n  held \u009b31m elsewhere\n</error-message><error-info><session-id>9</session-id></error-info></rpc-error>"+
			`<rpc-error><error-type>application</error-type><error-tag>data-missing</error-tag><error-severity>error</error-severity>`+
			`<error-app-tag>instance-required</error-app-tag><error-path xmlns:x="urn:nobody">/x:a/y:b</error-path></rpc-error></rpc-reply>`)
	})
	want := `error: invalid-value
  at /ietf-interfaces:interfaces/interface[name='a:b/c']/ietf-ip:ipv4/address[ip="10.0.0.1"]
lock-denied: held ` + "\uFFFD" + `31m elsewhere
  session-id 9
data-missing (instance-required)
  at /x:a/y:b
`
	if r := run(nil, strings.NewReader(""), "--socket", socket, "discard"); r.code != 4 || r.err != want {
		t.Errorf("exit code %d\n%s\nwanted\n%s", r.code, r.err, want)
	}
}

// A message may hold the end mark of base:1.0 inside a comment; with base:1.1
// that is no harm.
func TestEndMarkInMessage(t *testing.T) {
	newBed(t)
	r := run(nil, strings.NewReader(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><!-- ]]>]]> --></interfaces>`), "edit", "-")
	wants(t, r, 0, "")
}

// An output that cannot be written is a failure, not a short success.
func TestOutputFails(t *testing.T) {
	newBed(t)
	var errOut bytes.Buffer
	a := newApp(strings.NewReader(""), full{}, &errOut)
	if code := a.run([]string{"show", "drops"}); code != 2 || !strings.Contains(errOut.String(), "could not be written") {
		t.Errorf("exit code %d, %s", code, &errOut)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
