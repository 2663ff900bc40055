package kubelet

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Programs that images may stand for.
const (
	Web     = "web"     // an HTTP server that names its pod and the requester
	Ingress = "ingress" // weft-ingress, beside weft-node's own file
	Shell   = "shell"   // the machine's tools
	Pause   = "pause"   // nothing, for ever
)

// Image says which program stands for the images that a pattern matches.
type Image struct {
	Pattern string `json:"pattern"` // a name with tag; * is any text; docker.io/ and docker.io/library/ are left out
	Program string `json:"program"` // Web, Ingress, Shell or Pause
}

// Images is a table of images; the first row that matches counts.
type Images []Image

// BuiltIn returns the table that is used if there is no other.
func BuiltIn() Images {
	return Images{
		{"projects.registry.vmware.com/tanzu_ese_poc/hackazon:*", Web},
		{"nginx*", Web},
		{"*/nginx*", Web},
		{"httpd*", Web},
		{"weft-web*", Web},
		{"*/weft-web*", Web},
		{"weft-ingress*", Ingress},
		{"*/weft-ingress*", Ingress},
		{"busybox*", Shell},
		{"*/busybox*", Shell},
		{"alpine*", Shell},
		{"*/alpine*", Shell},
		{"debian*", Shell},
		{"ubuntu*", Shell},
		{"registry.k8s.io/pause*", Pause},
		{"pause*", Pause},
	}
}

// LoadImages reads a table: a YAML list of rows with pattern and program.
func LoadImages(path string) (Images, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var t Images
	if err := yaml.UnmarshalStrict(data, &t); err != nil {
		return nil, fmt.Errorf("images %s: %w", path, err)
	}
	for i, row := range t {
		if row.Pattern == "" {
			return nil, fmt.Errorf("images %s: row %d: pattern: is empty (an image name, * for any text)", path, i+1)
		}
		if !slices.Contains([]string{Web, Ingress, Shell, Pause}, row.Program) {
			return nil, fmt.Errorf("images %s: %s: program: %q: is unknown (%s, %s, %s, %s)", path, row.Pattern, row.Program, Web, Ingress, Shell, Pause)
		}
	}
	return t, nil
}

// Find returns the program of an image.
// Errors: there is none; the text lists what there is.
func (t Images) Find(image string) (string, error) {
	name := strings.TrimPrefix(strings.TrimPrefix(image, "docker.io/"), "library/")
	name, _, _ = strings.Cut(name, "@")
	var have []string
	for _, row := range t {
		if matches(row.Pattern, name) {
			return row.Program, nil
		}
		have = append(have, row.Pattern)
	}
	return "", fmt.Errorf("image %s: is no built-in program of this node (%s)", image, strings.Join(have, ", "))
}

// matches says whether name is pattern, where * is any text.
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return false
	}
	for i, part := range parts[1:] {
		if i == len(parts)-2 {
			return strings.HasSuffix(rest, part)
		}
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return rest == ""
}
