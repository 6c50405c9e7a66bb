package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/Juniper/go-netconf/netconf"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
)

// client is an open session.
type client struct {
	s      *netconf.Session
	warn   func(string) // hears of warnings in replies
	broken bool         // nothing more is to be expected of the session
}

// dial opens a session as the flags say.
func (a *app) dial() (*client, error) {
	var t *wire
	var err error
	if a.host == "" {
		t, err = a.dialUnix()
	} else {
		t, err = a.dialSSH()
	}
	if err != nil {
		return nil, unreachable(err)
	}
	s := netconf.NewSession(t)
	if t.fault != nil {
		_ = t.Close()
		err := fmt.Errorf("no session: %w", t.fault)
		if a.host == "" {
			err = fmt.Errorf("%w (%s lets in root and those who stand in its users file)", err, a.socket)
		}
		return nil, unreachable(err)
	}
	return &client{s: s, warn: func(w string) { fmt.Fprintf(a.err, "warning: %s\n", printable(w)) }}, nil
}

func (a *app) dialUnix() (*wire, error) {
	d := net.Dialer{Timeout: a.timeout}
	c, err := d.Dial("unix", a.socket)
	if err != nil {
		return nil, fmt.Errorf("%w (is vrouterd running? --socket names another one, --host a vRouter elsewhere)", err)
	}
	return newWire(c, c, &patience{conn: c, d: a.timeout}, c.Close), nil
}

// call runs one operation and gives the rpc-reply whole.
func (c *client) call(operation string) ([]byte, error) {
	r, err := c.s.Exec(netconf.RawMethod(operation))
	if r == nil || err != nil && len(r.Errors) == 0 {
		c.broken = true
		return nil, unreachable(err)
	}
	if len(r.Errors) > 0 {
		refusals, warnings := readErrors([]byte(r.RawReply))
		for _, w := range warnings {
			c.warn(w.String())
		}
		if len(refusals) > 0 {
			return nil, &refusal{errs: refusals}
		}
	}
	return []byte(r.RawReply), nil
}

// do runs an operation whose reply says no more than that it is done.
func (c *client) do(operation string) error {
	_, err := c.call(operation)
	return err
}

// tree runs a get or get-config and reads the <data> of the reply.
func (c *client) tree(operation string) (*data.Container, error) {
	s, err := schema()
	if err != nil {
		return nil, err
	}
	reply, err := c.call(operation)
	if err != nil {
		return nil, err
	}
	raw, err := inside(reply, "data")
	if err != nil {
		return nil, unreachable(fmt.Errorf("the reply cannot be read: %w", err))
	}
	t, err := codec.ReadRaw(s, raw)
	if err != nil {
		return nil, unreachable(fmt.Errorf("the reply cannot be read; was this vrouterctl built for another version of vRouter? %w", err))
	}
	return t, nil
}

// inside finds the child of that name in the root element of a message.
func inside(msg []byte, name string) (codec.Raw, error) {
	lx, err := codec.NewLexer(msg, nil)
	if err != nil {
		return codec.Raw{}, err
	}
	for depth := 0; ; {
		t, err := lx.Next()
		switch {
		case err != nil:
			return codec.Raw{}, err
		case t == codec.EOF, t == codec.End:
			return codec.Raw{}, errors.New("it holds no " + name)
		case t != codec.Start:
		case depth == 0:
			depth++
		case bytes.Equal(lx.Local, []byte(name)):
			return lx.Skip()
		default:
			if _, err := lx.Skip(); err != nil {
				return codec.Raw{}, err
			}
		}
	}
}

func (c *client) close() {
	if !c.broken {
		_, _ = c.call("<close-session/>")
	}
	_ = c.s.Close()
}

// element writes an element that holds a text.
func element(name, text string) string {
	return "<" + name + ">" + string(codec.AppendText(nil, text)) + "</" + name + ">"
}

// getConfig is the operation that reads a datastore.
func getConfig(ds, filter string) string {
	return "<get-config><source><" + ds + "/></source>" + filter + "</get-config>"
}

func subtree(filter string) string { return `<filter type="subtree">` + filter + `</filter>` }

// seconds writes a duration for confirm-timeout, rounded up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// indented is how XML is written for people.
func indented(tree *data.Container) (string, error) {
	s, err := schema()
	if err != nil {
		return "", err
	}
	b := codec.Writer{Schema: s, Indent: "  "}.Append(nil, tree)
	if len(b) == 0 {
		return "", nil
	}
	return strings.TrimRight(string(b), "\n") + "\n", nil
}
