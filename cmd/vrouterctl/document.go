package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"vrouter/mgmt/codec"
)

// A document is an XML file of the user's: the elements at its top. They share
// memory with its text.
type document struct{ top []codec.Raw }

// readDocument reads a file, or standard input for "-", and refuses what is not
// well-formed. The prefix nc is declared already: a file with several nodes has
// no one place to declare it.
func (a *app) readDocument(name string) (*document, error) {
	var b []byte
	var err error
	if name == "-" {
		name = "standard input"
		b, err = io.ReadAll(a.in)
	} else {
		b, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, err
	}
	d, err := parseDocument(b)
	if err != nil {
		return nil, fmt.Errorf("%s%w", name, err)
	}
	return d, nil
}

// ncScope is the namespaces in force where the document will stand.
var ncScope = func() codec.Scope {
	lx, err := codec.NewLexer([]byte(`<x xmlns="`+codec.NSNetconf+`" xmlns:nc="`+codec.NSNetconf+`"/>`), nil)
	if err == nil {
		_, err = lx.Next()
	}
	if err != nil {
		panic(err) // cannot be: the text is above
	}
	return lx.Scope()
}()

// encoding finds another encoding than UTF-8 in an XML declaration.
var encoding = regexp.MustCompile(`^<\?xml[^>]*encoding\s*=\s*["']([^"']*)["']`)

// parseDocument gives the elements of an XML text. An error begins with the
// line and column.
func parseDocument(b []byte) (*document, error) {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	if m := encoding.FindSubmatch(b); m != nil && !strings.EqualFold(string(m[1]), "utf-8") && !strings.EqualFold(string(m[1]), "us-ascii") {
		return nil, fmt.Errorf(" is in %s; only UTF-8 is read", m[1])
	}
	lx, err := codec.NewLexerIn(b, ncScope, nil)
	if err != nil {
		return nil, fmt.Errorf(": %w", err)
	}
	d := &document{}
	for {
		from := lx.Pos()
		t, err := lx.Next()
		var raw codec.Raw
		if err == nil && t == codec.Start {
			raw, err = lx.Skip()
			d.top = append(d.top, raw)
		}
		switch {
		case err != nil:
			what, _, _ := strings.Cut(err.Error(), " at byte ")
			at := lx.Pos()
			if strings.HasSuffix(what, "text outside the root element") { // found at its end
				at = from + len(b[from:]) - len(bytes.TrimLeft(b[from:], " \t\r\n"))
			}
			line, col := place(b, at)
			return nil, fmt.Errorf(":%d:%d: %s", line, col, what)
		case t == codec.EOF && len(d.top) == 0:
			return nil, errors.New(" holds no element")
		case t == codec.EOF:
			return d, nil
		}
	}
}

// place gives the line and column of a byte, both from 1.
func place(b []byte, pos int) (line, col int) {
	before := b[:min(pos, len(b))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}

// only gives the single element of the document if it has one of these names
// and no namespace of its own.
func (d *document) only(names ...string) (codec.Raw, bool) {
	if len(d.top) != 1 {
		return codec.Raw{}, false
	}
	lx, err := codec.NewLexerIn(d.top[0].XML, d.top[0].Scope, nil)
	if err != nil {
		return codec.Raw{}, false
	}
	if _, err := lx.Next(); err != nil {
		return codec.Raw{}, false
	}
	uri, _, _ := lx.Bound(lx.Prefix)
	for _, n := range names {
		if string(lx.Local) == n && string(uri) == codec.NSNetconf {
			return d.top[0], true
		}
	}
	return codec.Raw{}, false
}

// content gives the elements as XML for a message: those inside where one of
// the named elements is around them all.
func (d *document) content(around ...string) (string, error) {
	if w, ok := d.only(around...); ok {
		s, err := w.Content()
		return strings.TrimSpace(s), err
	}
	var b strings.Builder
	for _, e := range d.top {
		b.Write(e.XML)
	}
	return b.String(), nil
}

// config is the <config> element for an edit-config.
func (d *document) config() (string, error) {
	s, err := d.content("config", "data")
	return `<config xmlns:nc="` + codec.NSNetconf + `">` + s + "</config>", err
}
