"""Grammars: from a `GrammarSpec` to masks over a vocabulary. No tensors; everything here also runs in a bare process.

`schema_rules` and `structural_tags` say what is enforced, `translate` writes the language of the library that does
the work (llguidance), `compiler` asks that library, `check_process` does so at a safe distance.
"""
