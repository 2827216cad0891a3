// The rules of the dashboard's scripts and of their tests. Types and names are checked by `tsc`.

import js from "@eslint/js";

export default [
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2023, sourceType: "module" },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      // `tsc` knows the names that browsers define.
      "no-undef": "off",
      "no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      curly: ["error", "multi-line"],
      eqeqeq: ["error", "always", { null: "ignore" }],
      "no-duplicate-imports": "error",
      "no-implicit-coercion": "error",
      "no-implied-eval": "error",
      "no-shadow": ["error", { builtinGlobals: false, allow: ["Page", "act", "filter"] }],
      "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "prefer-template": "off",
      "sort-imports": ["error", { ignoreDeclarationSort: true, ignoreMemberSort: false, ignoreCase: false }],
    },
  },
];
