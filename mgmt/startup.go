package mgmt

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/txn"
	"vrouter/mgmt/validate"
)

// startup is the configuration to begin with.
type startup struct {
	file string
	tree *data.Container
}

// readStartup reads the file with the configuration to begin with; nil when
// there is none, or running was written before. It is valid when no error is
// returned, but the data plane has not seen it.
func (s *Server) readStartup(v *validate.Validator) (*startup, error) {
	file := s.o.StartupConfig
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("startup configuration: %w", err)
	}
	if s.store.Running().Seq > 0 {
		s.log.Info("the startup configuration is not needed: running was written before", "file", file)
		return nil, nil
	}
	tree, err := codec.Edit(s.schema, data.New(s.schema), wrap(text), data.Merge)
	if err != nil {
		return nil, fmt.Errorf("startup configuration %s: %w", file, err)
	}
	if tree, _, errs := v.Change(data.New(s.schema), tree, validate.Refs{}); len(errs) > 0 {
		return nil, fmt.Errorf("startup configuration %s: %w", file, errs)
	} else if tree != nil {
		return &startup{file, tree}, nil
	}
	return nil, nil
}

// wrap puts a <config> element around the content of a file, which may be the
// top-level nodes themselves, or have such an element, or <data>, already.
func wrap(text []byte) []byte {
	d := xml.NewDecoder(bytes.NewReader(text))
	begin := int64(0)
	for {
		t, err := d.RawToken()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return []byte("<config/>")
			}
			return text // the reader will say what is wrong
		}
		switch t := t.(type) {
		case xml.ProcInst:
			begin = d.InputOffset() // the XML declaration cannot stand inside
		case xml.StartElement:
			if n := t.Name.Local; n == "config" || n == "data" {
				return text
			}
			return append(append([]byte("<config>"), text[begin:]...), "</config>"...)
		}
	}
}

// begin makes the configuration to begin with running, once.
func (s *Server) begin(ctx context.Context) error {
	if s.first == nil {
		return nil
	}
	if s.store.Running().Seq > 0 { // somebody was faster
		s.first = nil
		return nil
	}
	by := txn.Session{User: "startup-configuration"}
	if err := s.manager.Copy(ctx, by, txn.Source{Tree: s.first.tree}, datastore.Running); err != nil {
		return fmt.Errorf("startup configuration %s: %w", s.first.file, err)
	}
	s.log.Info("the startup configuration is running now", "file", s.first.file)
	s.first = nil
	return nil
}
