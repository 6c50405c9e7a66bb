package netconf

import (
	"context"

	"vrouter/mgmt/data"
)

// getSchema answers get-schema (RFC 6022 section 3.1) with the text of a
// module or submodule.
func getSchema(_ context.Context, c *call) error {
	name, _ := c.text("identifier")
	version, versioned := c.text("version")
	if format, given := c.text("format"); given && format != "ietf-netconf-monitoring:yang" {
		return protoErr("invalid-value", "schemas come in format yang only", badElement("format"))
	}
	var found [][]byte
	take := func(n, rev string, text []byte) {
		if n == name && (!versioned || rev == version) {
			found = append(found, text)
		}
	}
	for _, m := range c.srv.schema.Sorted() {
		take(m.Name, m.Revision, m.Source)
		for _, sub := range m.Submodules {
			take(sub.Name, sub.Revision, sub.Source)
		}
	}
	switch len(found) {
	case 0:
		return protoErr("invalid-value", "there is no such schema", badElement("identifier"))
	case 1:
		c.out = append(c.out, `<data xmlns="`+nsMonitoring+`">`...)
		c.out = appendText(c.out, string(found[0]))
		c.out = append(c.out, "</data>"...)
		return nil
	}
	return &data.Error{Type: "protocol", Tag: "operation-failed", AppTag: "data-not-unique",
		Msg: "more than one schema has this identifier; give the version too"}
}
