package notify

import (
	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/xpath"
	"vrouter/mgmt/yang"
)

// A Filter says which notifications are wanted (RFC 5277 section 3.6). A nil
// *Filter wants all. It does not change.
type Filter struct {
	subtree *codec.Filter
	xpath   *xpath.Expr
}

// maxSteps bounds the evaluation of an XPath filter for one event.
const maxSteps = 1 << 20

// Subtree reads a <filter> element as a subtree filter (RFC 6241 section 6).
// Names that no notification has select nothing.
func (h *Hub) Subtree(f codec.Raw) (*Filter, error) {
	sub, err := codec.ParseFilterRaw(h.events, f)
	if err != nil {
		return nil, err
	}
	return &Filter{subtree: sub}, nil
}

// XPath compiles a filter of type xpath. Its context node is the root, which
// has the notification's element as child. prefixes are those in scope.
func (h *Hub) XPath(text string, prefixes yang.Prefixes) (*Filter, error) {
	x, err := h.xpath.Filter(text, prefixes)
	if err != nil {
		return nil, err
	}
	return &Filter{xpath: x}, nil
}

func (f *Filter) match(h *Hub, tree *data.Container) (bool, error) {
	switch {
	case f == nil:
		return true, nil
	case f.subtree != nil:
		return codec.Writer{Schema: h.events}.Selects(tree, f.subtree), nil
	}
	e := h.xpath.On(tree)
	e.Steps = maxSteps
	found := false
	err := e.Each(f.xpath, e.Root(), func(*xpath.Instance) bool {
		found = true
		return false
	})
	return found, err
}
