package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) rpcCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rpc FILE", Short: "send the operation in a file (- for standard input) and print the reply",
		Long: `Send the operation in a file, such as <get-schema> or an rpc of a module, with or
without an <rpc> element around it, and print the rpc-reply, indented.`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []string{"xml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := a.readDocument(args[0])
			if err != nil {
				return err
			}
			if len(d.top) != 1 {
				return fmt.Errorf("%s holds %d elements; one operation is wanted", args[0], len(d.top))
			}
			body, err := d.content("rpc")
			if err != nil {
				return err
			}
			if body == "" {
				return errors.New("the rpc holds no operation")
			}
			return a.with(func(c *client) error {
				reply, err := c.call(body)
				if err != nil {
					return err
				}
				fmt.Fprintln(a.out, reindent(reply))
				return nil
			})
		},
	}
}

// reindent writes XML one element a line. Only white space between elements
// changes; what is not XML, or has text beside elements, stays as it is.
func reindent(text []byte) string {
	type element struct{ kids, text bool }
	var b strings.Builder
	var open []element
	var space []byte // after the last tag
	line := func() {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(strings.Repeat("  ", len(open)))
	}
	dec := xml.NewDecoder(bytes.NewReader(text))
	for {
		from := dec.InputOffset()
		t, err := dec.RawToken()
		token := text[from:dec.InputOffset()]
		n := len(open) - 1
		switch t.(type) {
		case xml.StartElement:
			if n >= 0 {
				if open[n].text {
					return string(text)
				}
				open[n].kids = true
			}
			line()
			b.Write(token)
			open, space = append(open, element{}), nil
		case xml.EndElement: // of <x/> too, with an empty token
			if n < 0 {
				return string(text)
			}
			kids := open[n].kids
			if open = open[:n]; kids {
				line()
			} else {
				b.Write(space)
			}
			b.Write(token)
			space = nil
		case xml.CharData:
			if len(bytes.TrimSpace(token)) == 0 {
				space = token
				break
			}
			if n < 0 || open[n].kids {
				return string(text)
			}
			open[n].text = true
			b.Write(token)
		case xml.Comment:
			line()
			b.Write(token)
		case nil:
			if err == io.EOF && len(open) == 0 {
				return b.String()
			}
			return string(text)
		}
	}
}
