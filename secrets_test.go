package main

import (
	"encoding/base64"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// walk calls visit with every string in a value, and whether a secret holds it.
func walk(value resource.PropertyValue, secret bool, visit func(text string, secret bool)) {
	switch {
	case value.IsSecret():
		walk(value.SecretValue().Element, true, visit)
	case value.IsObject():
		for _, item := range value.ObjectValue() {
			walk(item, secret, visit)
		}
	case value.IsArray():
		for _, item := range value.ArrayValue() {
			walk(item, secret, visit)
		}
	case value.IsString():
		visit(value.StringValue(), secret)
	}
}

// decoded is text as it is, and as it reads when it is base64.
func decoded(text string) string {
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return text
	}
	return text + string(plain)
}
