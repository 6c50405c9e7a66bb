package codec

import (
	"vrouter/mgmt/data"
	"vrouter/mgmt/yang"
)

// AppendNode writes one node with all below it: a leaf, an entry of a
// leaf-list or list, or a container. in is the module whose namespace is the
// default one where the node will stand; nil where there is none.
func (w Writer) AppendNode(b []byte, n data.Node, in *yang.Module) []byte {
	x := xmlWriter{Writer: w, b: b, level: w.Level}
	x.node(n, in)
	return x.b
}
