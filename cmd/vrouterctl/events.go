package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/fatih/color"
	"github.com/spf13/cobra"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

func (a *app) eventsCommand() *cobra.Command {
	var stream string
	var since time.Duration
	c := &cobra.Command{
		Use: "events", Short: "follow what happens, until Ctrl-C",
		Long: `Follow the events of a stream (RFC 5277): sessions that come and go, changes of the
configuration, confirmed commits, and what the data plane tells. With --since those
of the past come first, as far as the vRouter remembers.`,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			if since < 0 {
				return errors.New("--since is how far to go back; it is not negative")
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if a.until != nil {
				ctx = a.until
			}
			return a.with(func(c *client) error { return a.follow(ctx, c, stream, since) })
		},
	}
	c.Flags().StringVar(&stream, "stream", "NETCONF", "the stream: NETCONF has everything, data-plane what the data plane tells")
	c.Flags().DurationVar(&since, "since", 0, "begin so far in the past: 10m, 24h")
	c.Flags().BoolVar(&a.json, "json", false, "print each event as a line of JSON (RFC 7951)")
	_ = c.RegisterFlagCompletionFunc("stream", cobra.FixedCompletions([]string{"NETCONF", "data-plane"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("since", cobra.NoFileCompletions)
	return c
}

// follow subscribes and prints what comes until ctx ends.
func (a *app) follow(ctx context.Context, c *client, stream string, since time.Duration) error {
	s, err := schema()
	if err != nil {
		return err
	}
	op := `<create-subscription xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0">` + element("stream", stream)
	if since > 0 {
		op += element("startTime", time.Now().Add(-since).UTC().Format(time.RFC3339Nano))
	}
	if err := c.do(op + "</create-subscription>"); err != nil {
		return err
	}
	t := c.s.Transport.(*wire)
	t.limit.d = 0 // nothing may happen for long
	c.broken = true
	defer context.AfterFunc(ctx, func() { t.Close() })()
	for {
		m, err := t.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return unreachable(fmt.Errorf("no more events: %w", err))
		}
		n, err := readNotification(s, m)
		if err != nil {
			return unreachable(fmt.Errorf("an event cannot be read; was this vrouterctl built for another version of vRouter? %w", err))
		}
		if a.json {
			fmt.Fprintln(a.out, n.json(s))
		} else {
			a.event(n)
		}
		if err := a.out.Flush(); err != nil {
			return fmt.Errorf("the output could not be written: %w", err)
		}
	}
}

// A notification is a message of that name (RFC 5277 section 4).
type notification struct {
	time string
	node *yang.Node
	tree *data.Container // of the schema of events, with node as its child; without one where that is empty
}

func readNotification(s *yang.Schema, msg []byte) (n notification, err error) {
	events := s.Events()
	lx, err := codec.NewLexer(msg, s.ModuleByNS)
	if err != nil {
		return n, err
	}
	if t, err := lx.Next(); err != nil || t != codec.Start || !bytes.Equal(lx.Local, []byte("notification")) {
		return n, errors.Join(errors.New("it is no notification"), err)
	}
	for {
		t, err := lx.Next()
		switch {
		case err != nil:
			return n, err
		case t == codec.End && n.node == nil:
			return n, errors.New("it holds no event")
		case t == codec.End:
			return n, nil
		case t != codec.Start:
		case bytes.Equal(lx.Local, []byte("eventTime")):
			for t, err = lx.Next(); t == codec.Text; t, err = lx.Next() {
				n.time += string(lx.Data)
			}
			if err != nil {
				return n, err
			}
		default:
			_, mod, _ := lx.Bound(lx.Prefix)
			if n.node = events.Root.Child(mod, lx.Local); n.node == nil || mod == nil {
				return n, fmt.Errorf("%s is not known", lx.Local)
			}
			raw, err := lx.Skip()
			if err != nil {
				return n, err
			}
			raw.XML = []byte("<data>" + string(raw.XML) + "</data>")
			if n.tree, err = codec.ReadRaw(events, raw); err != nil {
				return n, err
			}
		}
	}
}

// json writes a notification as RFC 8040 section 6.4 has it, on one line.
func (n notification) json(s *yang.Schema) string {
	body := []byte(`{"` + n.node.Module.Name + ":" + n.node.Name + `":{}}`)
	if n.tree.Sub(n.node) != nil {
		body = codec.Writer{Schema: s}.AppendJSON(nil, n.tree)
	}
	return `{"ietf-restconf:notification":{"eventTime":"` + n.time + `",` + string(body[1:]) + "}"
}

// event prints a notification for people: its leaves on a line, then a line for
// each entry of a list.
func (a *app) event(n notification) {
	var line []string
	var lists []string
	var walk func(c *data.Container, into *[]string)
	walk = func(c *data.Container, into *[]string) {
		for _, k := range c.Kids() {
			switch k := k.(type) {
			case *data.Leaf:
				text := k.S.Name
				if k.Value.Text != "" {
					text += "=" + printable(k.Value.Text)
				}
				*into = append(*into, text)
			case *data.Container:
				walk(k, into)
			case *data.List:
				k.Each(func(_ string, e data.Node) bool {
					switch e := e.(type) {
					case *data.Leaf:
						lists = append(lists, k.S.Name+" "+printable(e.Value.Text))
					case *data.Container:
						var in []string
						walk(e, &in)
						lists = append(lists, k.S.Name+" "+strings.Join(in, " "))
					}
					return true
				})
			}
		}
	}
	if c := n.tree.Sub(n.node); c != nil {
		walk(c, &line)
	}
	fmt.Fprintf(a.out, "%s %s", moment(n.time), a.out.paint(color.Bold, n.node.Name))
	for _, l := range line {
		fmt.Fprintf(a.out, " %s", l)
	}
	fmt.Fprintln(a.out)
	for _, l := range lists {
		fmt.Fprintf(a.out, "    %s\n", l)
	}
}
