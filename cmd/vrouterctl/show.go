package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
	modules "vrouter/yang"
)

// schema is what replies are read by: the modules this vrouterctl was built
// with, everything of theirs on, so that nothing of a reply is unknown.
var schema = sync.OnceValues(func() (*yang.Schema, error) {
	on := modules.Features()
	return yang.Load(yang.Options{FS: modules.FS, Features: func(m, f string) bool { return slices.Contains(on[m], f) }}, modules.Implemented()...)
})

// tree runs a get or get-config and reads the reply.
func (c *client) tree(body string) (*data.Container, error) {
	s, err := schema()
	if err != nil {
		return nil, err
	}
	b, err := c.data(body)
	if err != nil {
		return nil, err
	}
	return codec.Read(s, b)
}

// view is one thing to show: a subtree filter, and how its data becomes a
// table.
type view struct {
	use, short string
	aliases    []string
	filter     string
	// only inserts the names on the command line into the filter.
	only  func(name string) string
	table func(root *data.Container) *table
}

func showCommand(f *flags) *cobra.Command {
	show := &cobra.Command{Use: "show", Short: "show state and configuration"}
	for _, v := range views {
		parent := show
		use := v.use
		if first, rest, two := strings.Cut(v.use, "/"); two {
			use = rest
			parent = child(show, first)
		}
		parent.AddCommand(&cobra.Command{
			Use: use + argsOf(v), Short: v.short, Aliases: v.aliases, Args: maxArgs(v),
			RunE: func(_ *cobra.Command, args []string) error {
				return f.with(func(c *client) error { return v.show(f, c, args) })
			},
		})
	}
	show.AddCommand(showConfig(f))
	return show
}

func argsOf(v view) string {
	if v.only == nil {
		return ""
	}
	return " [NAME...]"
}

func maxArgs(v view) cobra.PositionalArgs {
	if v.only == nil {
		return cobra.NoArgs
	}
	return cobra.ArbitraryArgs
}

// child finds or makes the command in the middle of "ipsec sa".
func child(c *cobra.Command, name string) *cobra.Command {
	for _, x := range c.Commands() {
		if x.Name() == name {
			return x
		}
	}
	x := &cobra.Command{Use: name, Short: "show " + name + " state"}
	c.AddCommand(x)
	return x
}

func (v view) show(f *flags, c *client, names []string) error {
	filter := v.filter
	if len(names) > 0 {
		var b strings.Builder
		for _, n := range names {
			b.WriteString(v.only(string(codec.AppendText(nil, n))))
		}
		filter = b.String()
	}
	root, err := c.tree(`<get><filter type="subtree">` + filter + `</filter></get>`)
	if err != nil {
		return err
	}
	if f.json {
		fmt.Println(string(codec.Writer{Indent: "  "}.AppendJSON(nil, root)))
		return nil
	}
	v.table(root).print(os.Stdout)
	return nil
}

func showConfig(f *flags) *cobra.Command {
	return &cobra.Command{
		Use: "config [DATASTORE]", Short: "show a configuration (default: running)", Args: cobra.MaximumNArgs(1), ValidArgs: datastores,
		RunE: func(_ *cobra.Command, args []string) error {
			ds := "running"
			if len(args) > 0 {
				ds = args[0]
			}
			return f.with(func(c *client) error {
				if f.json {
					tree, err := c.tree("<get-config><source><" + ds + "/></source></get-config>")
					if err != nil {
						return err
					}
					fmt.Println(string(codec.Writer{Indent: "  "}.AppendJSON(nil, tree)))
					return nil
				}
				text, err := c.config(ds)
				fmt.Print(text)
				return err
			})
		},
	}
}
