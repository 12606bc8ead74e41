//! Asks the aggregate within for all that an aggregate of ours does not answer itself.

/// What `self.theirs`, an `AggregateUDF`, says of names, types and clauses. One list for all that hold
/// another aggregate, so that none forgets a method; but for its state.
macro_rules! as_theirs_but_state {
    () => {
        fn name(&self) -> &str {
            self.theirs.name()
        }

        fn aliases(&self) -> &[String] {
            self.theirs.aliases()
        }

        fn window_function_schema_name(
            &self,
            params: &datafusion::logical_expr::expr::WindowFunctionParams,
        ) -> Result<String> {
            self.theirs.window_function_schema_name(params)
        }

        fn window_function_display_name(
            &self,
            params: &datafusion::logical_expr::expr::WindowFunctionParams,
        ) -> Result<String> {
            self.theirs.window_function_display_name(params)
        }

        fn signature(&self) -> &datafusion::logical_expr::Signature {
            self.theirs.signature()
        }

        fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
            self.theirs.return_type(arguments)
        }

        fn return_field(
            &self,
            arguments: &[arrow::datatypes::FieldRef],
        ) -> Result<arrow::datatypes::FieldRef> {
            self.theirs.return_field(arguments)
        }

        fn is_nullable(&self) -> bool {
            self.theirs.is_nullable()
        }

        fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
            self.theirs.coerce_types(arguments)
        }

        fn default_value(&self, data_type: &DataType) -> Result<datafusion::common::ScalarValue> {
            self.theirs.default_value(data_type)
        }

        fn supports_null_handling_clause(&self) -> bool {
            self.theirs.supports_null_handling_clause()
        }

        fn supports_within_group_clause(&self) -> bool {
            self.theirs.supports_within_group_clause()
        }

        fn documentation(&self) -> Option<&datafusion::logical_expr::Documentation> {
            self.theirs.documentation()
        }
    };
}

/// The same, and its state.
macro_rules! as_theirs {
    () => {
        $crate::planner::aggregate_within::as_theirs_but_state!();

        fn state_fields(
            &self,
            args: datafusion::logical_expr::function::StateFieldsArgs,
        ) -> Result<Vec<arrow::datatypes::FieldRef>> {
            self.theirs.state_fields(args)
        }
    };
}

pub(super) use {as_theirs, as_theirs_but_state};
