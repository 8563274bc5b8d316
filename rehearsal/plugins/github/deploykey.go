package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-github/v74/github"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
)

// inputNames are the inputs of a deploy key; each is an output too, beside etag.
func inputNames() []resource.PropertyKey {
	return []resource.PropertyKey{"key", "readOnly", "repository", "title"}
}

const etag = resource.PropertyKey("etag")

func deployKeySchema() map[string]any {
	inputs := func() map[string]any {
		return map[string]any{
			"key": property("string"), "readOnly": property("boolean"),
			"repository": property("string"), "title": property("string"),
		}
	}
	outputs := inputs()
	outputs[string(etag)] = property("string")
	return map[string]any{
		"inputProperties": inputs(), "requiredInputs": []string{"key", "repository", "title"},
		"properties": outputs, "required": []string{string(etag), "key", "repository", "title"},
	}
}

// checkDeployKey tells everything that is wrong with the inputs. An unknown may still become
// anything.
func checkDeployKey(news resource.PropertyMap) (resource.PropertyMap, []plugin.CheckFailure) {
	inputs := news.Copy()
	var failures []plugin.CheckFailure
	fail := func(key resource.PropertyKey, format string, args ...any) {
		failures = append(failures, plugin.CheckFailure{Property: key, Reason: fmt.Sprintf(format, args...)})
	}
	for _, key := range inputs.StableKeys() {
		if !slices.Contains(inputNames(), key) && !strings.HasPrefix(string(key), "__") {
			fail(key, "a deploy key has no %q", key)
		}
	}
	for _, key := range []resource.PropertyKey{"key", "repository", "title"} {
		switch value := plain(inputs[key]); {
		case value.IsNull():
			fail(key, "a deploy key must have its %q", key)
		case !value.IsString() && !value.IsComputed():
			fail(key, "the %q of a deploy key must be a string", key)
		}
	}
	switch value := plain(inputs["readOnly"]); {
	case value.IsNull():
		inputs["readOnly"] = resource.NewProperty(true)
	case !value.IsBool() && !value.IsComputed():
		fail("readOnly", "the %q of a deploy key must be true or false", "readOnly")
	}
	return inputs, failures
}

// diffDeployKey compares with what is registered. Nothing of a key can be edited, and it can't
// be registered twice, so it is deleted before its replacement is made.
func diffDeployKey(registered, news resource.PropertyMap, ignored []string) plugin.DiffResult {
	detailed := map[string]plugin.PropertyDiff{}
	for _, name := range inputNames() {
		before, after := plain(registered[name]), plain(news[name])
		if name == "readOnly" && after.IsNull() {
			after = resource.NewProperty(true)
		}
		if !slices.Contains(ignored, string(name)) && !same(name, before, after) {
			detailed[string(name)] = plugin.PropertyDiff{Kind: plugin.DiffUpdateReplace}
		}
	}
	if len(detailed) == 0 {
		return plugin.DiffResult{Changes: plugin.DiffNone}
	}
	return plugin.DiffResult{Changes: plugin.DiffSome, DetailedDiff: detailed, DeleteBeforeReplace: true}
}

func same(name resource.PropertyKey, before, after resource.PropertyValue) bool {
	if name == "key" && before.IsString() && after.IsString() {
		return withoutComment(before.StringValue()) == withoutComment(after.StringValue())
	}
	return before.DeepEquals(after)
}

var keyWithComment = regexp.MustCompile(`^([a-z0-9-]+ \S+)(?: .*)?$`)

// withoutComment is a public key as GitHub keeps it.
func withoutComment(key string) string {
	return keyWithComment.ReplaceAllString(strings.TrimSpace(key), "$1")
}

// plannedDeployKey is what a creation will come to, as far as it can be told before.
func plannedDeployKey(inputs resource.PropertyMap) resource.PropertyMap {
	state := resource.PropertyMap{etag: resource.MakeComputed(resource.NewProperty(""))}
	for _, name := range inputNames() {
		state[name] = inputs[name]
	}
	return state
}

func createDeployKey(ctx context.Context, api *client, inputs resource.PropertyMap) (resource.ID, resource.PropertyMap, error) {
	repository := plain(inputs["repository"]).StringValue()
	created, _, err := api.github.Repositories.CreateKey(ctx, api.owner, repository, &github.Key{
		Key:      new(plain(inputs["key"]).StringValue()),
		Title:    new(plain(inputs["title"]).StringValue()),
		ReadOnly: new(plain(inputs["readOnly"]).BoolValue()),
	})
	if err != nil {
		return "", nil, api.explain(ctx, "registering a deploy key", repository, err)
	}
	id := resource.ID(fmt.Sprintf("%s:%d", repository, created.GetID()))
	// Read again for its etag. Should that fail, the key is there all the same, and must not
	// be lost: it could never be registered again.
	read, err := readDeployKey(ctx, api, id, inputs)
	if err == nil && read.ID == id {
		return id, read.Outputs, nil
	}
	return id, stateOf(created, repository, "", inputs), nil
}

// readDeployKey finds what is registered. A key that is gone has no ID: the engine then makes
// it anew.
func readDeployKey(ctx context.Context, api *client, id resource.ID, inputs resource.PropertyMap) (plugin.ReadResult, error) {
	repository, number, err := parseID(id)
	if err != nil {
		return plugin.ReadResult{}, err
	}
	key, response, err := api.github.Repositories.GetKey(ctx, api.owner, repository, number)
	if isNotFound(err) {
		return plugin.ReadResult{}, nil
	}
	if err != nil {
		return plugin.ReadResult{}, api.explain(ctx, "reading a deploy key", repository, err)
	}
	state := stateOf(key, repository, response.Header.Get("ETag"), inputs)
	found := state.Copy()
	delete(found, etag)
	if same("key", plain(inputs["key"]), plain(found["key"])) && !inputs["key"].IsNull() {
		found["key"] = inputs["key"] // with its comment
	}
	return plugin.ReadResult{ID: id, Inputs: found, Outputs: state}, nil
}

func deleteDeployKey(ctx context.Context, api *client, id resource.ID) error {
	repository, number, err := parseID(id)
	if err != nil {
		return err
	}
	_, err = api.github.Repositories.DeleteKey(ctx, api.owner, repository, number)
	if err != nil && !isNotFound(err) {
		return api.explain(ctx, "deleting a deploy key", repository, err)
	}
	return nil
}

// stateOf is a key's outputs; what was secret among the inputs stays so.
func stateOf(key *github.Key, repository, tag string, inputs resource.PropertyMap) resource.PropertyMap {
	state := resource.PropertyMap{
		"key":        resource.NewProperty(key.GetKey()),
		"readOnly":   resource.NewProperty(key.GetReadOnly()),
		"repository": resource.NewProperty(repository),
		"title":      resource.NewProperty(key.GetTitle()),
	}
	for name := range state {
		if inputs[name].IsSecret() {
			state[name] = resource.MakeSecret(state[name])
		}
	}
	state[etag] = resource.NewProperty(tag)
	return state
}

func parseID(id resource.ID) (repository string, number int64, err error) {
	repository, digits, _ := strings.Cut(string(id), ":")
	number, err = strconv.ParseInt(digits, 10, 64)
	if err != nil || repository == "" {
		return "", 0, fmt.Errorf("the ID of a deploy key is %q: it is of the form REPOSITORY:NUMBER, with GitHub's number of the key", id)
	}
	return repository, number, nil
}

func isNotFound(err error) bool {
	refused, ok := errors.AsType[*github.ErrorResponse](err)
	return ok && refused.Response.StatusCode == http.StatusNotFound
}
