package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/fatih/color"
	"github.com/spf13/cobra"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff [FROM [TO]]",
		Short: "what a commit would change: running against candidate, or any two datastores",
		Long: `Show what differs between two datastores, running and candidate unless others are
named, statement by statement: each that went (-) or came (+), below the
statements it stands in. Keys of SAs are not shown, only that they differ.

As diff(1) does, it ends with exit code 0 when nothing differs, 1 when something
does, and a higher one when it could not find out.`,
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: completeDatastores(2),
		RunE: func(_ *cobra.Command, args []string) error {
			from, to := "running", "candidate"
			if len(args) > 0 {
				from = args[0]
			}
			if len(args) > 1 {
				to = args[1]
			}
			if err := checkDatastore(from, to); err != nil {
				return err
			}
			var before, after *data.Container
			err := a.with(func(c *client) (err error) {
				if before, err = c.tree(getConfig(from, "")); err == nil {
					after, err = c.tree(getConfig(to, ""))
				}
				return err
			})
			if err != nil {
				return err
			}
			s, err := schema()
			if err != nil {
				return err
			}
			d := differ{w: codec.Writer{Schema: s, Indent: "  "}, title: [2]string{from, to}, a: a, root: [2]*data.Container{before, after}}
			data.Diff(before, after, d.change)
			if d.any {
				return errDiffers
			}
			return nil
		},
	}
}

// differ prints the changes between two trees as they are found, in the order
// of the tree.
type differ struct {
	a     *app
	w     codec.Writer
	title [2]string
	root  [2]*data.Container

	any  bool
	open []*data.Path // the statements around the last change
	// Of lists ordered by the user: which entries stay where they are among the
	// others, and what each one stands behind.
	stays  map[*data.List]map[string]bool
	behind map[*data.List]map[string]string
}

// change prints one change.
func (d *differ) change(c data.Change) {
	if c.Kind == data.Moved && !d.moved(c) {
		return
	}
	if !d.any {
		d.any = true
		d.line(color.Bold, "--- "+d.title[0])
		d.line(color.Bold, "+++ "+d.title[1])
	}
	d.around(c.Path.Up)
	in, level := module(c.Path.Up), len(d.open)
	if c.Kind == data.Moved {
		d.statement('!', color.FgYellow, keysOnly(c.New), in, level, " <!-- moved: now "+d.place(c)+" -->")
		return
	}
	if c.Old != nil {
		d.statement('-', color.FgRed, c.Old, in, level, "")
	}
	if c.New != nil {
		note := ""
		if c.Path.Entry && c.Path.Schema.UserOrder { // the order is a part of the configuration
			note = " <!-- " + d.place(c) + " -->"
		}
		d.statement('+', color.FgGreen, c.New, in, level, note)
	}
}

// module gives the module whose namespace is in force in a statement.
func module(p *data.Path) *yang.Module {
	if p == nil {
		return nil
	}
	return p.Schema.Module
}

// around prints the start tags and keys of the statements around a change that
// do not stand around the last one as well.
func (d *differ) around(p *data.Path) {
	var want []*data.Path
	for ; p != nil; p = p.Up {
		want = append(want, p)
	}
	slices.Reverse(want)
	n := 0
	for n < len(want) && n < len(d.open) && want[n].Schema == d.open[n].Schema && want[n].Key == d.open[n].Key {
		n++
	}
	d.open = d.open[:n]
	for _, p := range want[n:] {
		s, level := p.Schema, len(d.open)
		tag := s.Open
		if s.Module != module(p.Up) {
			tag = s.OpenNS
		}
		d.line(0, "  "+strings.Repeat(d.w.Indent, level)+string(tag))
		if e, ok := p.In(d.root[0]).(*data.Container); ok && p.Entry {
			for _, k := range s.Keys {
				d.statement(' ', 0, e.Child(k), s.Module, level+1, "")
			}
		}
		d.open = append(d.open, p)
	}
}

// statement prints a node with all below it; note stands behind its first line.
func (d *differ) statement(mark byte, c color.Attribute, n data.Node, in *yang.Module, level int, note string) {
	w := d.w
	w.Level = level
	text := strings.Trim(string(w.AppendNode(nil, masked(n), in)), "\n")
	first, rest, more := strings.Cut(text, "\n")
	d.line(c, string(mark)+" "+first+note)
	for more {
		first, rest, more = strings.Cut(rest, "\n")
		d.line(c, string(mark)+" "+first)
	}
}

func (d *differ) line(c color.Attribute, text string) {
	if c != 0 {
		text = d.a.out.paint(c, text)
	}
	fmt.Fprintln(d.a.out, text)
}

// keysOnly gives an entry without all but its keys.
func keysOnly(n data.Node) data.Node {
	e, ok := n.(*data.Container)
	if !ok {
		return n
	}
	p := data.Pick(e)
	for _, k := range e.S.Keys {
		p.Add(&data.Path{Schema: k})
	}
	return p.Tree()
}

// place says where an entry of a list ordered by the user stands.
func (d *differ) place(c data.Change) string {
	l := c.Parent.List(c.Path.Schema)
	behind := d.behind[l]
	if behind == nil {
		behind = map[string]string{}
		last := ""
		l.Each(func(key string, _ data.Node) bool {
			behind[key] = last
			last = key
			return true
		})
		if d.behind == nil {
			d.behind = map[*data.List]map[string]string{}
		}
		d.behind[l] = behind
	}
	if b := behind[c.Path.Key]; b != "" {
		return "after " + strings.NewReplacer("\x00", " ", "--", "- -").Replace(b)
	}
	return "first"
}

// moved tells whether an entry has another place among those that stay. When
// one of three entries goes to the end, the two others have new places as well,
// but nobody would say that they moved.
func (d *differ) moved(c data.Change) bool {
	old, _ := c.Path.Up.In(d.root[0]).(*data.Container)
	x, y := old.List(c.Path.Schema), c.Parent.List(c.Path.Schema)
	stays := d.stays[y]
	if stays == nil {
		stays = inOrder(x, y)
		if d.stays == nil {
			d.stays = map[*data.List]map[string]bool{}
		}
		d.stays[y] = stays
	}
	return !stays[c.Path.Key]
}

// inOrder gives a largest set of entries of both lists that stand in the same
// order in both: the longest increasing sequence, by piles.
func inOrder(x, y *data.List) map[string]bool {
	at := map[string]int{}
	x.Each(func(key string, _ data.Node) bool {
		at[key] = len(at)
		return true
	})
	type card struct {
		key  string
		at   int
		prev *card
	}
	var piles []*card
	y.Each(func(key string, _ data.Node) bool {
		i, ok := at[key]
		if !ok {
			return true
		}
		lo, hi := 0, len(piles)
		for lo < hi {
			if m := (lo + hi) / 2; piles[m].at < i {
				lo = m + 1
			} else {
				hi = m
			}
		}
		c := &card{key: key, at: i}
		if lo > 0 {
			c.prev = piles[lo-1]
		}
		if lo == len(piles) {
			piles = append(piles, c)
		} else {
			piles[lo] = c
		}
		return true
	})
	stays := map[string]bool{}
	if len(piles) > 0 {
		for c := piles[len(piles)-1]; c != nil; c = c.prev {
			stays[c.key] = true
		}
	}
	return stays
}

// hidden stands in the place of a secret.
const hidden = "(hidden)"

// withSecrets are the schema nodes that are default-deny-all (RFC 8341 section
// 3.2) or have such a node below them.
var withSecrets = sync.OnceValue(func() map[*yang.Node]bool {
	m := map[*yang.Node]bool{}
	s, err := schema()
	if err != nil {
		return m
	}
	var walk func(n *yang.Node) bool
	walk = func(n *yang.Node) bool {
		has := n.Secret() && n.Module.Name != "ietf-netconf-acm" // access rules are to be seen by who may read them
		for _, d := range n.Data {
			has = walk(d) || has
		}
		m[n] = has
		return has
	}
	walk(s.Root)
	return m
})

// masked gives a statement with its secrets replaced.
func masked(n data.Node) data.Node {
	if !withSecrets()[n.Schema()] {
		return n
	}
	switch n := n.(type) {
	case *data.Leaf:
		return &data.Leaf{S: n.S, Value: yang.Value{Type: n.Value.Type, Text: hidden}}
	case *data.Container:
		e := data.Begin(n)
		mask(e, n)
		return e.Done()
	}
	return n
}

// mask cannot fail: it enters what is there and overwrites leaves.
func mask(e *data.Edit, c *data.Container) {
	for _, k := range c.Kids() {
		s := k.Schema()
		if !withSecrets()[s] {
			continue
		}
		switch k := k.(type) {
		case *data.Leaf:
			if !s.IsKey() {
				_ = e.Leaf(s, yang.Value{Type: k.Value.Type, Text: hidden}, data.Merge, data.Where{})
			}
		case *data.Container:
			_ = e.Enter(s, data.Merge)
			mask(e, k)
			e.Leave()
		case *data.List:
			k.Each(func(_ string, entry data.Node) bool {
				switch x := entry.(type) {
				case *data.Leaf:
					_ = e.Leaf(s, x.Value, data.Remove, data.Where{})
				case *data.Container:
					keys := make([]yang.Value, len(s.Keys))
					for i, key := range s.Keys {
						keys[i], _, _ = x.Value(key)
					}
					_ = e.EnterEntry(s, keys, data.Merge, data.Where{})
					mask(e, x)
					e.Leave()
				}
				return true
			})
		}
	}
}
