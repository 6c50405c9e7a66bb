package netconf

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/yang"
)

const (
	base10 = "urn:ietf:params:netconf:base:1.0"
	base11 = "urn:ietf:params:netconf:base:1.1"

	capPrefix = "urn:ietf:params:netconf:capability:"
)

// capabilities are those of the protocol, then the modules.
func capabilities(s *yang.Schema, events bool) []string {
	caps := []string{
		base10,
		base11,
		capPrefix + "writable-running:1.0",
		capPrefix + "candidate:1.0",
		capPrefix + "confirmed-commit:1.0", // the 1.0 forms are for base:1.0 clients
		capPrefix + "confirmed-commit:1.1",
		capPrefix + "rollback-on-error:1.0",
		capPrefix + "validate:1.0",
		capPrefix + "validate:1.1",
		capPrefix + "startup:1.0",
		capPrefix + "xpath:1.0",
		capPrefix + "with-defaults:1.0?basic-mode=explicit&also-supported=report-all,report-all-tagged,trim",
	}
	if events {
		caps = append(caps, capPrefix+"notification:1.0", capPrefix+"interleave:1.0")
	}
	if lib := s.Modules["ietf-yang-library"]; lib != nil && lib.Implemented { // RFC 8525 section 3 by way of RFC 7950 5.6.4
		caps = append(caps, capPrefix+"yang-library:1.1?revision="+lib.Revision+"&content-id="+s.ID())
	}
	for _, m := range s.Sorted() {
		// Modules of YANG 1.1 are found in the YANG library only (RFC 7950
		// section 5.6.4); those of YANG 1 also here (RFC 6020 section 5.6.4).
		if !m.Implemented || m.Version == "1.1" {
			continue
		}
		c := m.Namespace + "?module=" + m.Name
		if m.Revision != "" {
			c += "&revision=" + m.Revision
		}
		if len(m.Features) > 0 {
			c += "&features=" + strings.Join(m.Features, ",")
		}
		if len(m.Deviations) > 0 {
			c += "&deviations=" + strings.Join(m.Deviations, ",")
		}
		caps = append(caps, c)
	}
	return caps
}

// helloText is our hello up to the session-id, the same for all sessions.
func helloText(caps []string) []byte {
	b := []byte(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<hello xmlns="` + nsBase + `"><capabilities>`)
	for _, c := range caps {
		b = append(b, "<capability>"...)
		b = appendText(b, c)
		b = append(b, "</capability>"...)
	}
	return append(b, "</capabilities><session-id>"...)
}

// hello exchanges hellos (RFC 6241 section 8.1) and switches to chunks when
// both sides have base:1.1. An error means that the session must end, without
// a reply.
func (c *session) hello() error {
	b := append([]byte(nil), c.srv.hello...)
	b = strconv.AppendUint(b, uint64(c.id), 10)
	b = append(b, "</session-id></hello>"...)
	sent := make(chan error, 1)
	go func() { // both sides may send at once, and a pipe may have no room
		c.w.Write(b)
		sent <- c.w.End()
	}()
	msg, err := c.r.Next(nil)
	if err != nil {
		return fmt.Errorf("no hello: %w", err)
	}
	if err := <-sent; err != nil {
		return err
	}
	caps, err := parseHello(msg)
	if err != nil {
		c.srv.stats.badHellos.Add(1)
		return fmt.Errorf("bad hello: %w", err)
	}
	if caps[base11] {
		c.r.Chunked()
		c.w.Chunked()
		c.base11 = true
	}
	return nil
}

// parseHello gives the capabilities of a client's hello.
func parseHello(msg []byte) (map[string]bool, error) {
	lx, err := codec.NewLexer(msg, nil)
	if err != nil {
		return nil, err
	}
	caps := map[string]bool{}
	var path []string
	var text []byte
	seen := false
	for {
		t, err := lx.Next()
		if err != nil {
			return nil, err
		}
		switch t {
		case codec.Start:
			if uri, _, _ := lx.Bound(lx.Prefix); string(uri) != nsBase {
				path = append(path, "") // of another namespace: passed over
			} else {
				path = append(path, string(lx.Local))
			}
			text = text[:0]
			switch {
			case len(path) == 1 && (path[0] != "hello" || seen):
				return nil, errors.New("the message is not a hello of NETCONF")
			case len(path) == 2 && path[1] == "session-id":
				return nil, errors.New("the client sent a session-id") // section 8.1: terminate
			}
			seen = true
		case codec.Text:
			text = append(text, lx.Data...)
		case codec.End:
			if len(path) == 3 && path[1] == "capabilities" && path[2] == "capability" {
				caps[string(bytes.TrimSpace(text))] = true
			}
			path = path[:len(path)-1]
		case codec.EOF:
			if !caps[base10] && !caps[base11] {
				return nil, errors.New("neither base:1.0 nor base:1.1 is among the client's capabilities")
			}
			return caps, nil
		}
	}
}
