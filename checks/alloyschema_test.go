package checks_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// alloyVersion is the release whose names config.alloy must use.
const (
	alloyVersion    = "v1.11.0"
	alloySchemaFile = "testdata/alloy-" + alloyVersion + ".json"
)

var updateAlloySchema = flag.Bool("update-alloy-schema", false, "write "+alloySchemaFile+" from Alloy's source")

// alloySchema is what Alloy's configuration may hold, for the components that are of use here.
// Alloy keeps the Go types that say so to itself, and can't be required as a module beside
// another Prometheus: so they are read from its source, once a release.
type alloySchema struct {
	Source string `json:"source"`
	// Components and configuration blocks, by name.
	Components map[string]alloyComponent `json:"components"`
	Types      map[string]alloyType      `json:"types"`
}

type alloyComponent struct {
	Arguments string `json:"arguments"`
	Exports   string `json:"exports,omitempty"`
}

// alloyType is a Go struct as its tags show it. Names carry a type each: Go's for an attribute,
// one of alloySchema.Types for a block.
type alloyType struct {
	Attributes map[string]alloyField `json:"attributes,omitempty"`
	Blocks     map[string]alloyField `json:"blocks,omitempty"`
}

type alloyField struct {
	Type     string `json:"type"`
	Optional bool   `json:"optional,omitempty"`
}

func loadAlloySchema(t *testing.T) alloySchema {
	t.Helper()
	content, err := os.ReadFile(alloySchemaFile)
	require.NoError(t, err)
	var schema alloySchema
	require.NoError(t, json.Unmarshal(content, &schema))
	return schema
}

// alloyPackages are where the source registers the components.
var alloyPackages = map[string]string{
	"discovery.file":          "internal/component/discovery/file",
	"discovery.kubernetes":    "internal/component/discovery/kubernetes",
	"discovery.relabel":       "internal/component/discovery/relabel",
	"local.file":              "internal/component/local/file",
	"loki.process":            "internal/component/loki/process",
	"loki.source.kubernetes":  "internal/component/loki/source/kubernetes",
	"loki.write":              "internal/component/loki/write",
	"prometheus.relabel":      "internal/component/prometheus/relabel",
	"prometheus.remote_write": "internal/component/prometheus/remotewrite",
	"prometheus.scrape":       "internal/component/prometheus/scrape",
}

func TestAlloySchema_IsThatOfTheRelease(t *testing.T) {
	cache, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	require.NoError(t, err)
	folder := filepath.Join(strings.TrimSpace(string(cache)), "github.com/grafana/alloy@"+alloyVersion)
	if _, err := os.Stat(folder); err != nil {
		t.Skip("needs Alloy's source: GOSUMDB=off go mod download github.com/grafana/alloy@" + alloyVersion)
	}

	source := alloySource{folder: folder, packages: map[string]*alloyPackage{}}
	schema := alloySchema{
		Source: "struct tags of github.com/grafana/alloy " + alloyVersion +
			"; written by: go test -run AlloySchema . -update-alloy-schema",
		Components: map[string]alloyComponent{
			"logging": {Arguments: "internal/runtime/logging.Options"},
		},
		Types: map[string]alloyType{},
	}
	for name, folder := range alloyPackages {
		schema.Components[name] = source.registration(t, folder)
	}
	for _, component := range schema.Components {
		source.collect(t, component.Arguments, schema.Types)
		source.collect(t, component.Exports, schema.Types)
	}
	content, err := json.MarshalIndent(schema, "", "\t")
	require.NoError(t, err)
	content = append(content, '\n')
	if *updateAlloySchema {
		require.NoError(t, os.MkdirAll(filepath.Dir(alloySchemaFile), 0o755))
		require.NoError(t, os.WriteFile(alloySchemaFile, content, 0o644))
	}
	committed, err := os.ReadFile(alloySchemaFile)
	require.NoError(t, err)
	assert.Equal(t, string(content), string(committed), "run the test with -update-alloy-schema")
}

// alloySource reads Go types from Alloy's source, without building it.
type alloySource struct {
	folder   string
	packages map[string]*alloyPackage
}

type alloyPackage struct {
	files []*ast.File
	types map[string]alloyDeclaration
}

type alloyDeclaration struct {
	file *ast.File
	spec *ast.TypeSpec
}

const alloyModule = "github.com/grafana/alloy/"

func (s *alloySource) load(t *testing.T, folder string) *alloyPackage {
	t.Helper()
	if loaded, found := s.packages[folder]; found {
		return loaded
	}
	loaded := &alloyPackage{types: map[string]alloyDeclaration{}}
	paths, err := filepath.Glob(filepath.Join(s.folder, folder, "*.go"))
	require.NoError(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		loaded.files = append(loaded.files, file)
		for _, declaration := range file.Decls {
			general, _ := declaration.(*ast.GenDecl)
			if general == nil {
				continue
			}
			for _, spec := range general.Specs {
				if spec, isType := spec.(*ast.TypeSpec); isType {
					loaded.types[spec.Name.Name] = alloyDeclaration{file, spec}
				}
			}
		}
	}
	require.NotEmpty(t, loaded.files, folder)
	s.packages[folder] = loaded
	return loaded
}

// registration finds the types that a package gives to component.Register.
func (s *alloySource) registration(t *testing.T, folder string) alloyComponent {
	t.Helper()
	var found alloyComponent
	for _, file := range s.load(t, folder).files {
		ast.Inspect(file, func(node ast.Node) bool {
			literal, _ := node.(*ast.CompositeLit)
			if literal == nil || literal.Type == nil || goText(t, literal.Type) != "component.Registration" {
				return true
			}
			for _, element := range literal.Elts {
				pair := element.(*ast.KeyValueExpr)
				switch value, _ := pair.Value.(*ast.CompositeLit); goText(t, pair.Key) {
				case "Args":
					found.Arguments = reference(t, folder, file, value.Type)
				case "Exports":
					found.Exports = reference(t, folder, file, value.Type)
				}
			}
			return false
		})
	}
	require.NotEmpty(t, found.Arguments, folder)
	return found
}

// collect adds a type, and those of its blocks, to the given ones.
func (s *alloySource) collect(t *testing.T, name string, types map[string]alloyType) {
	t.Helper()
	if _, known := types[name]; known || name == "" {
		return
	}
	collected := alloyType{Attributes: map[string]alloyField{}, Blocks: map[string]alloyField{}}
	types[name] = collected // before its blocks: a stage may hold stages
	s.fields(t, name, func(tag alloyTag, folder string, file *ast.File, kind ast.Expr) {
		switch tag.kind {
		case "attr":
			collected.Attributes[tag.name] = alloyField{Type: qualified(t, folder, kind), Optional: tag.optional}
		case "block":
			block := reference(t, folder, file, kind)
			collected.Blocks[tag.name] = alloyField{Type: block, Optional: tag.optional}
			s.collect(t, block, types)
		case "enum":
			s.fields(t, reference(t, folder, file, kind), func(choice alloyTag, folder string, file *ast.File, kind ast.Expr) {
				block := reference(t, folder, file, kind)
				collected.Blocks[tag.name+"."+choice.name] = alloyField{Type: block, Optional: true}
				s.collect(t, block, types)
			})
		}
	})
}

type alloyTag struct {
	name, kind string
	optional   bool
}

// fields visits the tagged fields of a struct, and of those that are squashed into it.
func (s *alloySource) fields(t *testing.T, name string, visit func(alloyTag, string, *ast.File, ast.Expr)) {
	t.Helper()
	dot := strings.LastIndex(name, ".")
	folder := name[:dot]
	declaration, found := s.load(t, folder).types[name[dot+1:]]
	require.True(t, found, name)
	structure, isStruct := declaration.spec.Type.(*ast.StructType)
	require.True(t, isStruct, "%s is no struct", name)
	for _, field := range structure.Fields.List {
		if field.Tag == nil {
			continue
		}
		tags, err := strconv.Unquote(field.Tag.Value)
		require.NoError(t, err)
		parts := strings.Split(reflect.StructTag(tags).Get("alloy"), ",")
		if len(parts) < 2 {
			continue
		}
		if parts[1] == "squash" {
			s.fields(t, reference(t, folder, declaration.file, field.Type), visit)
			continue
		}
		visit(alloyTag{name: parts[0], kind: parts[1], optional: len(parts) > 2}, folder, declaration.file, field.Type)
	}
}

// reference names the struct behind a field: its package's folder in the module, and its name.
func reference(t *testing.T, folder string, file *ast.File, kind ast.Expr) string {
	t.Helper()
	switch kind := kind.(type) {
	case *ast.StarExpr:
		return reference(t, folder, file, kind.X)
	case *ast.ArrayType:
		return reference(t, folder, file, kind.Elt)
	case *ast.Ident:
		return folder + "." + kind.Name
	case *ast.SelectorExpr:
		for _, imported := range file.Imports {
			location, err := strconv.Unquote(imported.Path.Value)
			require.NoError(t, err)
			name := path.Base(location)
			if imported.Name != nil {
				name = imported.Name.Name
			}
			if name == goText(t, kind.X) {
				inside, ours := strings.CutPrefix(location, alloyModule)
				require.True(t, ours, location)
				return inside + "." + kind.Sel.Name
			}
		}
	}
	require.Fail(t, "no struct behind "+goText(t, kind))
	return ""
}

// qualified is the text of a type as another package would write it, so that types compare.
func qualified(t *testing.T, folder string, kind ast.Expr) string {
	t.Helper()
	switch kind := kind.(type) {
	case *ast.StarExpr:
		return "*" + qualified(t, folder, kind.X)
	case *ast.ArrayType:
		return "[]" + qualified(t, folder, kind.Elt)
	case *ast.MapType:
		return fmt.Sprintf("map[%s]%s", qualified(t, folder, kind.Key), qualified(t, folder, kind.Value))
	case *ast.Ident:
		if kind.IsExported() {
			return path.Base(folder) + "." + kind.Name
		}
	}
	return goText(t, kind)
}

func goText(t *testing.T, node ast.Node) string {
	t.Helper()
	var text bytes.Buffer
	require.NoError(t, printer.Fprint(&text, token.NewFileSet(), node))
	return text.String()
}
