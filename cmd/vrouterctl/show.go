package main

import (
	"fmt"
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
// with, as a vRouter of the same build has them.
var schema = sync.OnceValues(func() (*yang.Schema, error) {
	on := modules.Features()
	return yang.Load(yang.Options{FS: modules.FS, Features: func(m, f string) bool { return slices.Contains(on[m], f) }}, modules.Implemented()...)
})

// A view is one thing to show: what to ask for, and how the answer becomes a
// table.
type view struct {
	words   string // "ipsec sa"
	short   string
	aliases []string
	filter  string // subtree filter for all of it
	list    *list  // in place of filter: the user can name entries
	// defaults tells that the table shows defaults in use as well.
	defaults bool
	table    func(root *data.Container) *table
}

// A list is entries with the key name that can be asked for one by one.
type list struct {
	what  string   // for messages
	path  []string // local names, from the root to the list
	open  string   // start tags of what is around the entries
	inner string   // what to ask of an entry; "" is everything
	close string
	// from is where the names for completion come from, when it is another list.
	from *list
}

// filter selects the entries of these names, all where there are none.
func (l *list) filter(names []string) string {
	entry := l.path[len(l.path)-1]
	if len(names) == 0 {
		inner := l.inner
		if inner != "" {
			inner = "<name/>" + inner
		}
		return l.open + "<" + entry + ">" + inner + "</" + entry + ">" + l.close
	}
	var b strings.Builder
	for _, n := range names {
		b.WriteString("<" + entry + ">" + element("name", n) + l.inner + "</" + entry + ">")
	}
	return l.open + b.String() + l.close
}

// keys selects the names of all entries.
func (l *list) keys() string {
	entry := l.path[len(l.path)-1]
	return l.open + "<" + entry + "><name/></" + entry + ">" + l.close
}

// missing tells which of the names an answer has not.
func (l *list) missing(root *data.Container, names []string) error {
	have := map[string]bool{}
	for _, n := range l.names(root) {
		have[n] = true
	}
	for _, n := range names {
		if !have[n] {
			return absent(fmt.Sprintf("there is no %s %q", l.what, n))
		}
	}
	return nil
}

func (l *list) names(root *data.Container) (names []string) {
	last := len(l.path) - 1
	for _, e := range entries(sub(root, l.path[:last]...), l.path[last]) {
		names = append(names, val(e, "name"))
	}
	return names
}

func (a *app) showCommand() *cobra.Command {
	show := group("show", "show state and configuration")
	show.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON (RFC 7951) instead of tables")
	for _, v := range views {
		parent := show
		first, use, two := strings.Cut(v.words, " ")
		if two {
			parent = child(show, first)
		} else {
			use = first
		}
		c := &cobra.Command{
			Use: use, Short: v.short, Aliases: v.aliases, Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
			RunE: func(_ *cobra.Command, args []string) error {
				return a.with(func(c *client) error { return a.show(c, v, args) })
			},
		}
		if v.list != nil {
			c.Use, c.Args, c.ValidArgsFunction = use+" [NAME...]", cobra.ArbitraryArgs, a.completeNames(v.list)
		}
		parent.AddCommand(c)
	}
	show.AddCommand(a.showConfig())
	return show
}

// child finds or makes the command in the middle of "ipsec sa".
func child(c *cobra.Command, name string) *cobra.Command {
	for _, x := range c.Commands() {
		if x.Name() == name {
			return x
		}
	}
	x := group(name, "show state of "+name)
	c.AddCommand(x)
	return x
}

// group makes a command that is only there for those below it.
func group(name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short,
		Args: func(c *cobra.Command, args []string) error { // cobra would print the help and be content
			if len(args) > 0 {
				return fmt.Errorf("%q is nothing that %q knows; it knows %s", args[0], c.CommandPath(), strings.Join(below(c), ", "))
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
}

// below names the commands below one.
func below(c *cobra.Command) (names []string) {
	for _, x := range c.Commands() {
		names = append(names, x.Name())
	}
	return names
}

func (a *app) show(c *client, v view, names []string) error {
	filter := v.filter
	if v.list != nil {
		filter = v.list.filter(names)
	}
	body := subtree(filter)
	if v.defaults && !a.json {
		body += `<with-defaults xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-with-defaults">report-all</with-defaults>`
	}
	root, err := c.tree("<get>" + body + "</get>")
	if err != nil {
		return err
	}
	if v.list != nil {
		if err := v.list.missing(root, names); err != nil {
			return err
		}
	}
	if a.json {
		// Nobody needs a key to look at state. What shows a configuration
		// whole is "show config".
		return a.printJSON(root, func(n *yang.Node) bool { return n.DenyAll })
	}
	v.table(root).print(a.out)
	return nil
}

func (a *app) printJSON(root *data.Container, hide func(*yang.Node) bool) error {
	s, err := schema()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s\n", codec.Writer{Schema: s, Indent: "  ", Hide: hide}.AppendJSON(nil, root))
	return err
}

func (a *app) showConfig() *cobra.Command {
	return &cobra.Command{
		Use: "config [DATASTORE]", Short: "show a configuration (default: running)", Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeDatastores(1),
		Long: `Show a configuration as XML, in the form that "vrouterctl edit" takes. Users of
role admin see the keys of SAs in it.`,
		RunE: func(_ *cobra.Command, args []string) error {
			ds := "running"
			if len(args) > 0 {
				ds = args[0]
			}
			if err := checkDatastore(ds); err != nil {
				return err
			}
			return a.with(func(c *client) error {
				root, err := c.tree(getConfig(ds, ""))
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(root, nil)
				}
				text, err := indented(root)
				if err == nil {
					_, err = a.out.WriteString(text)
				}
				return err
			})
		},
	}
}
