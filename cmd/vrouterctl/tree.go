package main

import (
	"strconv"
	"strings"
	"time"

	"vrouter/mgmt/data"
)

// The readers of replies look for local names: where two modules have one of
// the same name at a place (the address of an IPv4 and of an IPv6 next hop),
// only one of them is there. What is absent reads as "".

// kid finds a child by its local name.
func kid(c *data.Container, name string) data.Node {
	if c != nil {
		for _, k := range c.Kids() {
			if k.Schema().Name == name {
				return k
			}
		}
	}
	return nil
}

// sub finds a container by its path.
func sub(c *data.Container, path ...string) *data.Container {
	for _, name := range path {
		c, _ = kid(c, name).(*data.Container)
	}
	return c
}

// val reads a leaf by its path.
func val(c *data.Container, path ...string) string {
	last := len(path) - 1
	if l, ok := kid(sub(c, path[:last]...), path[last]).(*data.Leaf); ok {
		return l.Value.Text
	}
	return ""
}

// has tells whether a node is there: what a leaf of type empty says.
func has(c *data.Container, name string) bool { return kid(c, name) != nil }

// num reads a leaf that holds a number; 0 where there is none.
func num(c *data.Container, path ...string) uint64 {
	n, _ := strconv.ParseUint(val(c, path...), 10, 64)
	return n
}

// count is num as text; "" where the container of the number is not there: it
// is not known then.
func count(c *data.Container, path ...string) string {
	if sub(c, path[:len(path)-1]...) == nil {
		return ""
	}
	return strconv.FormatUint(num(c, path...), 10)
}

// entries gives a list's entries in their order.
func entries(c *data.Container, name string) (out []*data.Container) {
	l, _ := kid(c, name).(*data.List)
	l.Each(func(_ string, e data.Node) bool {
		if x, ok := e.(*data.Container); ok {
			out = append(out, x)
		}
		return true
	})
	return out
}

// values gives what a leaf-list holds.
func values(c *data.Container, name string) (out []string) {
	l, _ := kid(c, name).(*data.List)
	l.Each(func(_ string, e data.Node) bool {
		if x, ok := e.(*data.Leaf); ok {
			out = append(out, x.Value.Text)
		}
		return true
	})
	return out
}

// moment cuts a date-and-time to seconds: so much is of use to people, and the
// fraction is of any length.
func moment(s string) string {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return s
	}
	return t.Truncate(time.Second).Format(time.RFC3339)
}

// bare cuts the module off an identity.
func bare(s string) string { return s[strings.LastIndexByte(s, ':')+1:] }
