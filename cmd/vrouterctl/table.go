package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/fatih/color"

	"vrouter/mgmt/data"
)

// table is rows of text; a column's colour is chosen by its cell.
type table struct {
	head []string
	rows [][]string
	// empty is said instead of a table without rows.
	empty string
	// right marks columns of numbers.
	right map[int]bool
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer) {
	if len(t.rows) == 0 {
		fmt.Fprintln(w, t.empty)
		return
	}
	width := make([]int, len(t.head))
	for _, r := range append([][]string{t.head}, t.rows...) {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	line := func(r []string, paint func(string) string) {
		var b strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if t.right[i] {
				b.WriteString(pad + paint(c))
			} else if b.WriteString(paint(c)); i < len(r)-1 {
				b.WriteString(pad)
			}
			if i < len(r)-1 {
				b.WriteString("  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	line(t.head, func(s string) string { return color.New(color.Bold).Sprint(s) })
	for _, r := range t.rows {
		line(r, paint)
	}
}

// paint gives states their colour.
func paint(s string) string {
	switch s {
	case "up", "reachable", "protect", "active", "yes":
		return color.GreenString(s)
	case "down", "failed", "discard", "error", "fault":
		return color.RedString(s)
	case "stale", "incomplete", "attack?", "attack", "warning":
		return color.YellowString(s)
	}
	return s
}

// The readers below look into a reply's tree by local names; what is absent
// reads as "".

// sub finds a container by its path of local names.
func sub(c *data.Container, path ...string) *data.Container {
	for _, name := range path {
		if c == nil {
			return nil
		}
		n := c.S.Child(nil, []byte(name))
		if n == nil {
			return nil
		}
		c = c.Sub(n)
	}
	return c
}

// val reads a leaf by its path of local names.
func val(c *data.Container, path ...string) string {
	c = sub(c, path[:len(path)-1]...)
	if c == nil {
		return ""
	}
	n := c.S.Child(nil, []byte(path[len(path)-1]))
	if n == nil {
		return ""
	}
	v, _, _ := c.Value(n)
	return v.Text
}

// entries lists a list's entries.
func entries(c *data.Container, name string) (out []*data.Container) {
	if c == nil {
		return nil
	}
	n := c.S.Child(nil, []byte(name))
	if n == nil {
		return nil
	}
	if l := c.List(n); l != nil {
		l.Each(func(_ string, e data.Node) bool {
			if x, ok := e.(*data.Container); ok {
				out = append(out, x)
			}
			return true
		})
	}
	return out
}

// bare cuts the module off an identity.
func bare(s string) string {
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		return s[i+1:]
	}
	return s
}

// or gives the first text that is there.
func or(s ...string) string {
	for _, x := range s {
		if x != "" {
			return x
		}
	}
	return ""
}
